"""GPT-2 small, one token at a time with a static cache: how near a step comes to reading its weights once.

    python benchmarks/decode.py [--cache 256] [--steps 200] [--json FILE]

Prints milliseconds a step, and the bytes of int8 weights over that time beside what plain reading reaches: in turns,
since a machine may read twice as fast in one second as in another.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cases  # noqa: F401  # finds the examples
from json_output import add_json, write_json

from minilm.quiet import silence

silence()

import numpy as np  # noqa: E402
import torch  # noqa: E402

import lower86  # noqa: E402

_TURNS, _SETTLING = 8, 5


def _lowered(cache: int) -> lower86.LoweredModule:
    import transformers
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    model.generation_config = transformers.GenerationConfig(
        use_cache=True, cache_implementation="static", max_length=cache,
        cache_config={"batch_size": 1, "max_cache_len": cache},
    )  # fmt: skip
    step = TorchExportableModuleWithStaticCache(model)
    given = {"input_ids": torch.tensor([[7]]), "cache_position": torch.tensor([0])}
    prepared = prepare_pt2e(torch.export.export(step, (), given, strict=True).module(), lower86.X86Quantizer())
    with torch.no_grad():
        prepared(**given)
    return lower86.lower_pt2e_quantized_to_x86(convert_pt2e(prepared), (), example_kwargs=given)


def _bandwidth(data: torch.Tensor) -> float:
    """Bytes a second that summing up with all threads reads, at best of three times."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - start)
    return data.numel() * 4 / best


def _step(lowered: lower86.LoweredModule, place: int) -> float:
    """Seconds for a token at a place of the cache."""
    given = {"input_ids": torch.tensor([[7]]), "cache_position": torch.tensor([place])}
    start = time.perf_counter()
    lowered(**given)
    return time.perf_counter() - start


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    add_json(parser)
    options = parser.parse_args()
    lowered = _lowered(options.cache)
    explanation = lower86.explain(lowered)
    weights = sum(
        int(np.prod(c.shape)) for c, p in zip(lowered.program.constants, lowered.program.packings, strict=True)
        if p.kind.startswith("int8")
    )  # fmt: skip
    data = torch.ones(1 << 28, dtype=torch.float32)
    taken, readings, shares = [], [], []
    each = max(1, options.steps // _TURNS)
    for turn in range(_TURNS):
        reached = _bandwidth(data)
        for place in range(_SETTLING):  # threads that summed up have to go to sleep first
            _step(lowered, place)
        times = [_step(lowered, (turn * each + place) % options.cache) for place in range(each)]
        taken += times
        readings.append(reached)
        shares.append(weights / statistics.median(times) / reached)
    took, reached, share = map(statistics.median, (taken, readings, shares))
    print(f"  int8 share {explanation.int8_fraction:.3f}, foreign steps {len(explanation.foreign)}")
    print(f"  a step {took * 1e3:.2f} ms; {weights / 1e6:.0f} MB of int8 weights at {weights / took / 1e9:.1f} GB/s")
    print(f"  plain reading {reached / 1e9:.1f} GB/s: {share:.0%}, from {min(shares):.0%} to {max(shares):.0%}")
    figures = {
        "cache": options.cache, "steps": options.steps, "seconds": took, "weight_bytes": weights, "share": share,
        "read_bytes_per_second": reached, "int8_share": explanation.int8_fraction, "foreign": len(explanation.foreign),
    }  # fmt: skip
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
