"""A pretrained sentence encoder in int8: quantized by torchao, lowered by lower86, measured on a real task.

Once with torchao's quantizer, which leaves attention in float, and once with lower86's, which does not.

The task: find the docstring of each of 1,200 functions, methods and classes of the Python standard library from its
first sentence alone, among what follows that sentence in all of them. Run it with `make demo`.

It leaves `build/minilm.safetensors`, the lowered encoder for `lower86.load`, and its report `build/minilm.html`, which
it opens where there is a display.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.fx import GraphModule

from lower86.report import turns
from minilm import corpus, encoder, measure, quiet, report
from minilm.report import FP32, LOWER86, TORCHAO, WHOLE

BUILD = Path(__file__).resolve().parents[1] / "build"
ENTRIES, CALIBRATION = 1_200, 128
FP32_BATCH, COMPARED_WITH_QUANTIZED, LATENCY_ROUNDS = 32, 64, 30


@dataclass(frozen=True)
class Lowered:
    """What each lowering made of its quantized model, and the seconds it took; the models of lower86's own; inputs."""

    modules: Mapping[str, Any]
    seconds: Mapping[str, float]
    quantized: Mapping[str, GraphModule]
    example: encoder.Tokens


@contextmanager
def _step(progress: Progress, name: str) -> Iterator[None]:
    """Shows work that cannot say how far it is."""
    task = progress.add_task(name, total=None)
    yield
    progress.update(task, total=1, completed=1)


def _lower(progress: Progress, quantized: Mapping[str, GraphModule], example: encoder.Tokens) -> Lowered:
    # Imported this late because both may talk while they are imported, and `quiet` has to come first.
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86 as torchao_lowering

    import lower86

    modules, seconds = {}, {}
    ways = {name: (model, lower86.lower_pt2e_quantized_to_x86) for name, model in quantized.items()}
    for name, (model, lower) in {**ways, TORCHAO: (quantized[LOWER86], torchao_lowering)}.items():
        with _step(progress, f"Lower: {name}"):
            start = time.perf_counter()
            modules[name] = lower(model, example)
            seconds[name] = time.perf_counter() - start
    return Lowered(modules, seconds, quantized, example)


def _embed(progress: Progress, name: str, encode: Callable[..., Tensor], tokens: encoder.Tokens, batch: int) -> Tensor:
    """The embeddings of all rows of `tokens`, float32 [rows, 384]."""
    starts = progress.track(range(0, len(tokens[0]), batch), description=f"Embed: {name}")
    with torch.no_grad():
        return torch.cat([encode(*(part[i : i + batch] for part in tokens)) for i in starts])


def _latency(
    progress: Progress, contenders: Mapping[str, Callable[..., object]], tokens: encoder.Tokens
) -> list[turns.Round]:
    """Rounds of latencies for the longest text, which fills all positions."""
    longest = int(tokens[1].sum(1).argmax())
    sentence = [part[longest : longest + 1].clone() for part in tokens]
    calls = {name: partial(contender, *sentence) for name, contender in contenders.items()}
    rounds = turns.interleave(calls, LATENCY_ROUNDS)
    with torch.no_grad():
        return list(progress.track(rounds, total=LATENCY_ROUNDS, description="Measure latency, interleaved"))


def _run(progress: Progress) -> tuple[report.Results, Lowered]:
    with _step(progress, "Load the encoder and the docstrings"):
        texts = corpus.load(ENTRIES, CALIBRATION)
        fp32, tokenize = encoder.load()
        calibration = [tokenize([text]) for text in texts.calibration]
        tokens = tokenize([entry.title for entry in texts.entries] + [entry.body for entry in texts.entries])
    example = calibration[0]
    quantized = {}
    for name, quantizer in ((LOWER86, encoder.torchao_quantizer()), (WHOLE, encoder.own_quantizer())):
        inputs = progress.track(calibration, description=f"Quantize: {name}")
        quantized[name] = encoder.quantize(fp32, inputs, example, quantizer)
    lowered = _lower(progress, quantized, example)

    embeddings = {FP32: _embed(progress, FP32, fp32, tokens, FP32_BATCH)}
    every = 2 * ENTRIES // COMPARED_WITH_QUANTIZED
    sample = tokens[0][::every], tokens[1][::every]
    accounts = {}
    for name, model in quantized.items():
        embeddings[name] = _embed(progress, name, lowered.modules[name], tokens, 1)
        of_sample = _embed(progress, f"{name}, quantized model, a sample", model, sample, 1)
        accounts[name] = _account(lowered.modules[name], embeddings[name], embeddings[FP32], every, of_sample)
    rounds = _latency(progress, {FP32: fp32, **lowered.modules}, tokens)

    def recalls(k: int) -> dict[str, float]:
        return {name: measure.recall(vectors[:ENTRIES], vectors[ENTRIES:], k) for name, vectors in embeddings.items()}

    results = report.Results(
        accounts=accounts,
        lowering=lowered.seconds,
        recalls={k: recalls(k) for k in (1, 10)},
        entries=ENTRIES,
        threads=torch.get_num_threads(),
        latency=turns.medians(rounds),
        ratio=turns.ratios(rounds, LOWER86),
    )
    return results, lowered


def _account(module: Any, vectors: Tensor, fp32: Tensor, every: int, quantized: Tensor) -> report.Account:
    import lower86

    explanation = lower86.explain(module)
    return report.Account(
        int8_fraction=explanation.int8_fraction,
        kernels=len(explanation.kernels),
        foreign_steps=len(explanation.foreign),
        torch_export=module.timings["export"],
        to_fp32=measure.likeness(vectors, fp32),
        to_quantized=measure.likeness(vectors[::every], quantized),
    )


def main() -> None:
    """Quantize, lower, embed, measure, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explain", action="store_true", help="also print what became of every quantized operation")
    parser.add_argument("--output", type=Path, default=BUILD, help="folder for the lowered model and its report")
    parser.add_argument("--no-open", action="store_true", help="do not open the report in the browser")
    arguments = parser.parse_args()
    quiet.silence()
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Redrawing more often than this would take time from what is measured.
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        results, lowered = _run(progress)
        from minilm.keep import has_display, keep, show

        with _step(progress, "Save it and write its report"):
            kept = keep(lowered.modules[WHOLE], lowered.example, arguments.output)
    if arguments.explain:
        for name in lowered.quantized:
            console.print(name, str(lowered.modules[name].explanation), sep="\n", markup=False)
    console.print(report.table(results))
    for what, path in (("lowered model", kept.program), ("report", kept.report)):
        console.print(f"{what}: {path}", soft_wrap=True, markup=False, highlight=False)
    if has_display() and not arguments.no_open:
        show(kept.report)


if __name__ == "__main__":
    main()
