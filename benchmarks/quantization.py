"""The table of docs/quantization.md: each recipe's int8 on a sentence encoder and two networks for digits.

Run it from the repository's root: `python -m benchmarks.quantization`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from minilm import corpus, encoder, measure, quiet  # noqa: E402

quiet.silence()

import torch  # noqa: E402
from tests.models import digits, hard  # noqa: E402

import lower86  # noqa: E402
from lower86.quantization.recipe import RECIPES  # noqa: E402


def _lowered(model: Any, calibration: Any, recipe: str, example: tuple[Any, ...], **options: Any) -> Any:
    quantized = lower86.quantize(model, calibration, recipe=recipe, progress=False, **options)
    return lower86.lower_pt2e_quantized_to_x86(quantized, example, on_fallback="raise")


def _sentences() -> None:
    texts = corpus.load(64, 20)
    model, tokenize = encoder.load()
    calibration = [tokenize([text]) for text in texts.calibration]
    tests = [tokenize([entry.body]) for entry in texts.entries]
    with torch.no_grad():
        wanted = torch.cat([model(*tokens) for tokens in tests])
    for recipe in RECIPES:
        lowered = _lowered(model, calibration, recipe, calibration[0])
        likeness = measure.likeness(torch.cat([lowered(*tokens) for tokens in tests]), wanted)
        print(f"MiniLM {recipe}: cosine {likeness.mean:.5f}, minimum {likeness.minimum:.5f}", flush=True)


def _digits(module: ModuleType) -> None:
    cache = ROOT / ".pytest_cache" / "d" / "lower86"
    cache.mkdir(parents=True, exist_ok=True)
    model = module.trained(cache)
    images, _, tests, labels = digits.digits()
    name = module.__name__.rpartition(".")[2]
    with torch.no_grad():
        print(f"{name} float: {digits.accuracy(model(tests), labels):.1%}", flush=True)
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    for recipe in RECIPES:
        lowered = _lowered(model, images.split(64), recipe, (images[:8],), dynamic_shapes=shapes)
        print(f"{name} {recipe}: {digits.accuracy(lowered(tests), labels):.1%}", flush=True)


if __name__ == "__main__":
    _digits(hard)
    _digits(digits)
    _sentences()
