"""One program for all lengths beside a program for each: MiniLM with dynamic batch and length, attention in int8.

    python benchmarks/dynamic.py [--lengths 1 7 16 100 128 384 512] [--rounds 20] [--json FILE]

Both take turns in one process. What is compiled after the first call of the dynamic one would be an error.
"""

from __future__ import annotations

import argparse

import cases  # noqa: F401  # finds the examples
from json_output import add_json, write_json

from minilm.quiet import silence

silence()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import lower86  # noqa: E402
from lower86.report.turns import interleave, medians, ratios  # noqa: E402
from lower86.runtime.code_cache import counters  # noqa: E402

LONGEST = 512


def _tokens(batch: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1000, 20000, (batch, length))
    return ids, torch.ones_like(ids)


def _lowered(model: nn.Module, example: tuple[Tensor, Tensor], shapes: object = None) -> lower86.LoweredModule:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    exported = torch.export.export(model, example, strict=True, dynamic_shapes=shapes)
    prepared = prepare_pt2e(exported.module(), lower86.X86Quantizer())
    with torch.no_grad():
        prepared(*example)
    return lower86.lower_pt2e_quantized_to_x86(convert_pt2e(prepared), example, dynamic_shapes=shapes)


def main() -> None:
    """Measures the lengths named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 7, 16, 100, 128, 384, LONGEST])
    parser.add_argument("--rounds", type=int, default=20)
    add_json(parser)
    options = parser.parse_args()
    from minilm import encoder

    model, _ = encoder.load()
    dims = {0: Dim("batch", max=64), 1: Dim("length", max=LONGEST)}
    dynamic = _lowered(model, _tokens(2, 64), (dims, dims))
    dynamic(*_tokens(1, 64))
    rows = []
    for length in options.lengths:
        given = _tokens(1, length)
        compiled = counters.compiled
        dynamic(*given)
        if counters.compiled != compiled:
            raise RuntimeError(f"a new length, {length}, compiled kernels")
        static = _lowered(model, given)
        calls = {"static": lambda given=given, run=static: run(*given), "dynamic": lambda given=given: dynamic(*given)}
        rounds = list(interleave(calls, options.rounds))
        taken, ratio = medians(rounds), ratios(rounds, "static")["dynamic"]
        rows.append({"tokens": length, **taken, "ratio": ratio})
        print(
            f"  {length:4d} tokens: static {taken['static']:7.3f} ms, dynamic {taken['dynamic']:7.3f}, {ratio:.3f}x",
            flush=True,
        )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
