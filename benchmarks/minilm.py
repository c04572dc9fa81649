"""The sentence encoder at several lengths: lower86 and its peers in one run.

    python benchmarks/minilm.py [--json FILE] [--lengths 16 128] [--rounds 40] [--no-inductor]

Contenders take turns, a few calls each, in rotating order, so that all see the same states of the machine. Before the
timing every contender's result is compared with the quantized model's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from minilm.quiet import silence

silence()

import peers  # noqa: E402
import torch  # noqa: E402

import lower86  # noqa: E402
from minilm import encoder as minilm  # noqa: E402
from minilm.measure import interleave, medians, ratios  # noqa: E402

_TEXTS = (
    "Return the absolute value of the argument.",
    "Open the file and return a corresponding file object. If the file cannot be opened, an OSError is raised.",
    "Split the string at the last occurrence of sep, and return a 3-tuple with the part before it.",
)


def contenders(length: int, with_inductor: bool) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Callables that encode one text of `length` tokens, and the cosine of each result to the quantized model's."""
    encoder, tokenize = minilm.load()
    ids, mask = tokenize(_TEXTS)
    tokens = (ids[:1, :length].contiguous(), torch.ones_like(mask[:1, :length]))
    quantized = minilm.quantize(
        encoder, [(i[None, :length], m[None, :length]) for i, m in zip(ids, mask, strict=True)], tokens
    )
    models: dict[str, Any] = {"fp32 eager": encoder, "lower86": lower86.lower_pt2e_quantized_to_x86(quantized, tokens)}
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    models["torchao lowering"] = lower_pt2e_quantized_to_x86(quantized, tokens)
    if with_inductor:
        torch._inductor.config.freezing = True
        models["Inductor int8"] = torch.compile(quantized)
    with torch.no_grad():
        expected = quantized(*tokens)
        likeness = {n: torch.cosine_similarity(m(*tokens), expected).item() for n, m in models.items()}
    calibration = [(i[None, :length], m[None, :length]) for i, m in zip(ids, mask, strict=True)]
    others = {}
    for name, make in peers.installed().items():
        others[name], result = make(encoder, calibration, tokens, torch.get_num_threads())
        likeness[name] = torch.cosine_similarity(result, expected).item()

    def call(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return model(*tokens)

        return run

    return {**{name: call(model) for name, model in models.items()}, **others}, likeness


def main() -> None:
    """Prints a table a length; with --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--no-inductor", action="store_true")
    options = parser.parse_args()
    figures = []
    for length in options.lengths:
        torch.compiler.reset()
        models, likeness = contenders(length, not options.no_inductor)
        end = time.perf_counter() + 1.0
        while time.perf_counter() < end:
            for call in models.values():
                call()
        rounds = list(interleave(models, options.rounds))
        middle, times = medians(rounds), ratios(rounds, "lower86")
        print(f"one text of {length} tokens, {torch.get_num_threads()} threads")
        for name in models:
            low, high = min(r[name] for r in rounds), statistics.quantiles([r[name] for r in rounds], n=100)[98]
            print(
                f"  {name:17s} {middle[name]:7.2f} ms (min {low:6.2f}, p99 {high:6.2f}), {times[name]:5.2f} times "
                f"lower86's, cosine to the quantized model {likeness[name]:.4f}"
            )
            figures.append(
                {"length": length, "name": name, "ms": middle[name], "min": low, "p99": high, "ratio": times[name]}
            )
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
