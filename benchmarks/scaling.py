"""How a model's time grows with its batch and shrinks with its threads: lowered modules in turns, in one process.

    python benchmarks/scaling.py [NAME …] [--batches 1 2 4 8 16 32] [--threads 1 2] [--rounds 12] [--json FILE]

NAME is a convolutional network of the tests (`resnet-50` if none is named). Milliseconds an image, medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cases import vision
from json_output import add_json, write_json

from minilm.quiet import silence

silence()

import torch  # noqa: E402

import lower86  # noqa: E402
from lower86.peers.peer import quantized  # noqa: E402
from lower86.report.turns import interleave, medians  # noqa: E402


def _call(lowered: torch.nn.Module, inputs: tuple[torch.Tensor, ...], threads: int) -> Callable[[], object]:
    def call() -> object:
        lower86.set_num_threads(threads)
        return lowered(*inputs)

    return call


def _calls(name: str, batches: list[int], threads: list[int]) -> dict[tuple[int, int], Callable[[], object]]:
    """A call by batch and number of threads. The first batch runs on each number of threads, others on the last."""
    calls = {}
    for batch in batches:
        case = vision(name, batch)
        lowered = lower86.lower_pt2e_quantized_to_x86(quantized(case), case.inputs[0])
        for count in threads if batch == batches[0] else threads[-1:]:
            calls[batch, count] = _call(lowered, case.inputs[0], count)
    return calls


def main() -> None:
    """Measures the networks named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet-50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--rounds", type=int, default=12)
    add_json(parser)
    options = parser.parse_args()
    rows = []
    for name in options.names:
        print(name, flush=True)
        calls = _calls(name, options.batches, options.threads)
        labels = {(batch, count): f"batch {batch}, threads {count}" for batch, count in calls}
        taken = medians(list(interleave({labels[key]: call for key, call in calls.items()}, options.rounds)))
        for (batch, count), label in labels.items():
            each = taken[label] / batch
            rows.append({"name": name, "batch": batch, "threads": count, "ms_an_image": each})
            print(f"  {label:22s}{each:7.3f} ms an image")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
