"""The demo's results as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from minilm.measure import Likeness

FP32, TORCHAO, LOWER86, WHOLE = "PyTorch fp32", "torchao", "lower86", "lower86, attention too"
CONTENDERS: Sequence[str] = (FP32, TORCHAO, LOWER86, WHOLE)
NONE = "–"


@dataclass(frozen=True)
class Account:
    """What lower86 made of one quantized model, and how like two others its embeddings are; duration in seconds."""

    int8_fraction: float
    kernels: int
    foreign_steps: int
    torch_export: float
    to_fp32: Likeness
    to_quantized: Likeness


@dataclass(frozen=True)
class Results:
    """Everything the table shows; latencies in milliseconds, durations in seconds, mappings by contender."""

    accounts: Mapping[str, Account]
    lowering: Mapping[str, float]
    recalls: Mapping[int, Mapping[str, float]]
    entries: int
    threads: int
    latency: Mapping[str, float]
    ratio: Mapping[str, float]


def _row(table: Table, name: str, cells: Mapping[str, str], *, end_section: bool = False) -> None:
    table.add_row(name, *(cells.get(column, NONE) for column in CONTENDERS), end_section=end_section)


def table(results: Results) -> Table:
    """A column for each contender, a section for each question."""
    view = Table(title="all-MiniLM-L6-v2, quantized to int8", caption=f"median latencies; {results.threads} threads")
    view.add_column()
    for contender in CONTENDERS:
        view.add_column(contender, justify="right")

    def accounts(cell: Callable[[Account], str]) -> dict[str, str]:
        return {name: cell(account) for name, account in results.accounts.items()}

    _row(view, "int8 share of quantized MACs", accounts(lambda a: f"{a.int8_fraction:.1%}"))
    _row(view, "kernels / foreign steps", accounts(lambda a: f"{a.kernels} / {a.foreign_steps}"), end_section=True)

    _row(view, "lowering, s", {name: f"{seconds:.1f}" for name, seconds in results.lowering.items()})
    own = {name: results.lowering[name] - account.torch_export for name, account in results.accounts.items()}
    parts = {name: f"{account.torch_export:.1f} + {own[name]:.1f}" for name, account in results.accounts.items()}
    _row(view, "  torch.export + lower86's own", parts, end_section=True)

    _row(view, "cosine to fp32, mean / min", accounts(lambda a: f"{a.to_fp32.mean:.5f} / {a.to_fp32.minimum:.5f}"))
    likeness = accounts(lambda a: f"{a.to_quantized.mean:.5f} / {a.to_quantized.minimum:.5f}")
    _row(view, "cosine to quantized, mean / min", likeness)
    for k, shares in results.recalls.items():
        _row(view, f"recall@{k} of {results.entries:,}", {name: f"{share:.1%}" for name, share in shares.items()})
    view.add_section()

    _row(view, "one sentence (128 tokens), ms", {name: f"{ms:.2f}" for name, ms in results.latency.items()})
    _row(view, "  times lower86's", {name: f"{ratio:.2f}×" for name, ratio in results.ratio.items()})
    return view
