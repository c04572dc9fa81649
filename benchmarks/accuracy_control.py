"""The tables of docs/quantization.md on accuracy control: a network that int8 ruins, and a sentence encoder.

Run it from the repository's root: `python -m benchmarks.accuracy_control [hard] [minilm] [likeness]`. The encoder's
metric is the share of the titles of the demo's docstrings whose own body is found first among all, or, which asks more,
the mean cosine of its vectors to the float model's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples"), str(ROOT / "benchmarks")]

from json_output import add_json, write_json  # noqa: E402

from minilm import corpus, encoder, measure, quiet  # noqa: E402

quiet.silence()

import torch  # noqa: E402
from tests.models import digits, hard  # noqa: E402

import lower86  # noqa: E402

ENTRIES, LIKENED, CALIBRATION = 600, 200, 64


def _hard(options: dict[str, Any]) -> dict[str, Any]:
    cache = ROOT / ".pytest_cache" / "d" / "lower86"
    cache.mkdir(parents=True, exist_ok=True)
    model = hard.trained(cache)
    images, _, tests, labels = digits.digits()

    def accuracy(run: Any, validation: Any) -> float:
        return digits.accuracy(torch.cat([run(x) for x, _ in validation]), torch.cat([y for _, y in validation]))

    batches = list(zip(tests.split(64), labels.split(64), strict=True))
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    found = {}
    for recipe in ("fast", "balanced"):
        report = lower86.quantize_with_accuracy_control(
            model, images.split(64), batches, accuracy, **{"recipe": recipe, "dynamic_shapes": shapes, **options}
        )
        print(f"the hard network, {recipe}, {report.seconds:.0f} s", report, sep="\n", flush=True)
        found[recipe] = json.loads(report.to_json())
    return found


def _minilm(options: dict[str, Any]) -> dict[str, Any]:
    texts = corpus.load(ENTRIES, CALIBRATION)
    model, tokenize = encoder.load()
    calibration = [tokenize([text]) for text in texts.calibration]
    titles, bodies = ([tokenize([getattr(entry, part)]) for entry in texts.entries] for part in ("title", "body"))

    def found_first(run: Any, validation: Any) -> float:
        vectors = torch.cat([run(*tokens) for tokens in validation])
        return measure.recall(vectors[: len(titles)], vectors[len(titles) :], 1)

    report = lower86.quantize_with_accuracy_control(model, calibration, titles + bodies, found_first, **options)
    print(f"MiniLM, found first, {report.seconds:.0f} s", report, sep="\n", flush=True)
    return json.loads(report.to_json())


def _likeness(options: dict[str, Any]) -> dict[str, Any]:
    texts = corpus.load(LIKENED, CALIBRATION)
    model, tokenize = encoder.load()
    tests = [tokenize([entry.body]) for entry in texts.entries]
    with torch.no_grad():
        wanted = torch.cat([model(*tokens) for tokens in tests])

    def cosine(run: Any, validation: Any) -> float:
        return measure.likeness(torch.cat([run(*tokens) for tokens in validation]), wanted).mean

    calibration = [tokenize([text]) for text in texts.calibration]
    report = lower86.quantize_with_accuracy_control(
        model, calibration, tests, cosine, **{**options, "max_drop": options["max_drop"] / 10}
    )
    print(f"MiniLM, cosine, {report.seconds:.0f} s", report, sep="\n", flush=True)
    return json.loads(report.to_json())


_MODELS = {"hard": _hard, "minilm": _minilm, "likeness": _likeness}


def main() -> None:
    """Run, and print the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(_MODELS), metavar=" | ".join(_MODELS))
    parser.add_argument("--max-drop", type=float, default=0.01, help="of cosines, a tenth of it")
    parser.add_argument("--recipe", help="of all models; each has its own otherwise")
    parser.add_argument("--resume", help="a JSON file that keeps what is measured")
    add_json(parser)
    arguments = parser.parse_args()
    options = {"max_drop": arguments.max_drop, "resume": arguments.resume}
    if arguments.recipe:
        options["recipe"] = arguments.recipe
    write_json(arguments.json, {name: _MODELS[name](options) for name in arguments.models})


if __name__ == "__main__":
    main()
