"""The table of docs/quantization.md: each recipe's int8 on a sentence encoder and two networks for digits.

Run it from the repository's root: `python -m benchmarks.quantization [PART …] [--json FILE]`. The parts are `digits`,
`sentences`, and `peer`, the same sentences with OpenVINO's int8 by NNCF, where these are installed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples"), str(ROOT / "benchmarks")]

from json_output import add_json, write_json  # noqa: E402

from minilm import corpus, encoder, measure, quiet  # noqa: E402

quiet.silence()

import torch  # noqa: E402
from tests.models import digits, hard  # noqa: E402

import lower86  # noqa: E402
from lower86.quantization.recipe import RECIPES  # noqa: E402


def _lowered(model: Any, calibration: Any, recipe: str, example: tuple[Any, ...], **options: Any) -> Any:
    quantized = lower86.quantize(model, calibration, recipe=recipe, progress=False, **options)
    return lower86.lower_pt2e_quantized_to_x86(quantized, example, on_fallback="raise")


def _texts() -> tuple[Any, list[Any], list[Any], list[Any]]:
    """The model; tokens to calibrate with; of titles and of bodies that nothing was tuned on, nor calibrated."""
    tuned = corpus.load(64, 20)
    known = {*tuned.calibration, *(entry.title for entry in tuned.entries)}
    texts = corpus.load(400, 200)
    entries = [e for e in texts.entries if e.title not in known and f"{e.title} {e.body}" not in known]
    model, tokenize = encoder.load()
    titles, bodies = [tokenize([e.title]) for e in entries], [tokenize([e.body]) for e in entries]
    return model, [tokenize([text]) for text in texts.calibration[:60]], titles, bodies


def _say(name: str, got: list[Any], wanted: list[Any]) -> dict[str, Any]:
    likeness, found = measure.likeness(torch.cat(got), torch.cat(wanted)), measure.recall(got[0], got[1], 1)
    print(
        f"MiniLM {name}: cosine {likeness.mean:.5f}, minimum {likeness.minimum:.4f}, "
        f"recall@1 {found:.1%} of {len(got[0])}",
        flush=True,
    )
    return {"name": name, "cosine": likeness.mean, "minimum": likeness.minimum, "recall": found, "of": len(got[0])}


def _sentences() -> list[dict[str, Any]]:
    model, calibration, *tests = _texts()
    with torch.no_grad():
        wanted = [torch.cat([model(*tokens) for tokens in column]) for column in tests]
    rows = [_say("float", wanted, wanted)]
    for recipe in RECIPES:
        lowered = _lowered(model, calibration, recipe, calibration[0])
        rows.append(_say(recipe, [torch.cat([lowered(*tokens) for tokens in column]) for column in tests], wanted))
    return rows


def _peer() -> list[dict[str, Any]]:
    import nncf
    import openvino

    model, calibration, *tests = _texts()
    with torch.no_grad():
        wanted = [torch.cat([model(*tokens) for tokens in column]) for column in tests]
    data = nncf.Dataset([tuple(t.numpy() for t in tokens) for tokens in calibration])
    converted = openvino.convert_model(model, example_input=calibration[0])
    quantized = nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(calibration))
    compiled = openvino.compile_model(quantized, "CPU")

    def run(tokens: tuple[Any, ...]) -> Any:
        return torch.from_numpy(compiled([t.numpy() for t in tokens])[0])

    return [_say("OpenVINO, NNCF", [torch.cat([run(tokens) for tokens in column]) for column in tests], wanted)]


def _digits(module: ModuleType) -> list[dict[str, Any]]:
    cache = ROOT / ".pytest_cache" / "d" / "lower86"
    cache.mkdir(parents=True, exist_ok=True)
    model = module.trained(cache)
    images, _, tests, labels = digits.digits()
    name = module.__name__.rpartition(".")[2]
    with torch.no_grad():
        rows = [{"network": name, "name": "float", "accuracy": digits.accuracy(model(tests), labels)}]
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    for recipe in RECIPES:
        lowered = _lowered(model, images.split(64), recipe, (images[:8],), dynamic_shapes=shapes)
        rows.append({"network": name, "name": recipe, "accuracy": digits.accuracy(lowered(tests), labels)})
    for row in rows:
        print(f"{row['network']} {row['name']}: {row['accuracy']:.1%}", flush=True)
    return rows


PARTS = {"digits": lambda: _digits(hard) + _digits(digits), "sentences": _sentences, "peer": _peer}


def main() -> None:
    """Measures the parts named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["digits", "sentences"], metavar=" | ".join(PARTS))
    add_json(parser)
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    write_json(options.json, {part: PARTS[part]() for part in options.parts})


if __name__ == "__main__":
    main()
