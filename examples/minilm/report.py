"""The demo's results as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from minilm.measure import Likeness

FP32, TORCHAO, LOWER86 = "PyTorch fp32", "torchao", "lower86"
NONE = "–"


@dataclass(frozen=True)
class Results:
    """Everything the table shows; latencies in milliseconds, durations in seconds, mappings by contender."""

    int8_fraction: float
    kernels: int
    foreign_steps: int
    lowering: Mapping[str, float]
    torch_export: float
    to_fp32: Likeness
    to_quantized: Likeness
    recalls: Mapping[int, Mapping[str, float]]
    entries: int
    threads: int
    latency: Mapping[str, float]
    ratio: Mapping[str, float]


def _row(table: Table, name: str, cells: Mapping[str, str], *, end_section: bool = False) -> None:
    columns: Sequence[str] = (FP32, TORCHAO, LOWER86)
    table.add_row(name, *(cells.get(column, NONE) for column in columns), end_section=end_section)


def table(results: Results) -> Table:
    """A column for each contender, a section for each question."""
    view = Table(title="all-MiniLM-L6-v2, quantized to int8", caption=f"median latencies; {results.threads} threads")
    view.add_column()
    for contender in (FP32, TORCHAO, LOWER86):
        view.add_column(contender, justify="right")

    _row(view, "int8 share of quantized MACs", {LOWER86: f"{results.int8_fraction:.1%}"})
    _row(view, "kernels / foreign steps", {LOWER86: f"{results.kernels} / {results.foreign_steps}"}, end_section=True)

    own = results.lowering[LOWER86] - results.torch_export
    _row(view, "lowering, s", {name: f"{seconds:.1f}" for name, seconds in results.lowering.items()})
    parts = {LOWER86: f"{results.torch_export:.1f} + {own:.1f}"}
    _row(view, "  torch.export + lower86's own", parts, end_section=True)

    for name, like in (("fp32", results.to_fp32), ("quantized", results.to_quantized)):
        _row(view, f"cosine to {name}, mean / min", {LOWER86: f"{like.mean:.5f} / {like.minimum:.5f}"})
    for k, shares in results.recalls.items():
        _row(view, f"recall@{k} of {results.entries:,}", {name: f"{share:.1%}" for name, share in shares.items()})
    view.add_section()

    _row(view, "one sentence (128 tokens), ms", {name: f"{ms:.2f}" for name, ms in results.latency.items()})
    _row(view, "  times lower86's", {name: f"{ratio:.2f}×" for name, ratio in results.ratio.items()})
    return view
