"""What became of a model's quantized operators: plain data, made at lowering, saved with it, shown in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..counted import counted
from ..program.kernels import Attention, Contraction, Depthwise, Fill, Kernel, Pack, Rows
from ..program.program import Program, Step, native_steps
from ..program.renamed import renamed


@dataclass(frozen=True)
class Record:
    """One quantized contraction of the source model.

    `node` is its name in the INT8 graph; `macs` its multiply-accumulates a call (for symbolic shapes, at the example's
    sizes); `reason` says why it stays float, "" if it does not.
    """

    node: str
    operator: str
    module: str
    line: str
    macs: int
    reason: str = ""

    @property
    def is_int8(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class KernelInfo:
    """One kernel: its kind, its sizes, the steps that use it, and the nodes each of them computes."""

    number: int
    kind: str
    shape: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class ForeignInfo:
    """One foreign step: the node, its operator, and where it comes from."""

    node: str
    operator: str
    where: str


@dataclass(frozen=True)
class Explanation:
    """What became of a model. `str()` is a table."""

    operators: tuple[Record, ...]
    foreign: tuple[ForeignInfo, ...]
    kernels: tuple[KernelInfo, ...]
    kernel_of: dict[str, int]
    regions: int

    @property
    def int8_fraction(self) -> float:
        """The share of the quantized multiply-accumulates that run in int8; 0 if nothing is quantized."""
        total = sum(r.macs for r in self.operators)
        return sum(r.macs for r in self.operators if r.is_int8) / total if total else 0.0

    @property
    def refused(self) -> tuple[Record, ...]:
        """The quantized contractions that stay float."""
        return tuple(r for r in self.operators if not r.is_int8)

    def fallback_message(self, *, float_is_meant: bool = False) -> str:
        """What a user has to know at lowering; "" if everything quantized is int8 and nothing is foreign.

        With `float_is_meant`, that nothing is quantized at all is no news.
        """
        parts = []
        if not self.operators and not float_is_meant:
            parts.append(
                "the model holds no quantized contraction, so it runs in float: pass what convert_pt2e returned, and "
                "check that the quantizer annotated it"
            )
        if self.refused:
            lines = [f"{r.node} ({r.operator}; {r.module or r.line}): {r.reason}" for r in self.refused]
            parts.append(
                f"{len(self.refused)} of {counted(len(self.operators), 'quantized contraction')} "
                f"{'stays' if len(self.refused) == 1 else 'stay'} float:{_listed(lines)}"
            )
        if self.foreign:
            lines = [f"{f.operator}: {f.where}" for f in self.foreign]
            steps = counted(len(self.foreign), "step runs", "steps run")
            parts.append(f"{steps} in PyTorch, not in generated code:{_listed(lines)}")
        return "; ".join(parts)

    def __str__(self) -> str:
        done = [r for r in self.operators if r.is_int8]
        quantized, kernels = counted(len(self.operators), "quantized contraction"), counted(len(self.kernels), "kernel")
        lines = [
            f"{len(done)} of {quantized} in int8 ({100 * self.int8_fraction:.1f} % of their multiply-accumulates); "
            f"{kernels}, "
            f"{counted(self.regions, 'native region')}, {counted(len(self.foreign), 'foreign step')}"
        ]
        rows = [("operator", "node", "module", "MMAC", "runs as")]
        for r in self.operators:
            kernel = self.kernel_of.get(r.node)
            runs = f"int8, kernel {kernel}" if r.is_int8 else f"float: {r.reason}"
            rows.append((r.operator, r.node, r.module, f"{r.macs / 1e6:.2f}", runs))
        lines += table(rows)
        if self.foreign:
            lines += ["", "foreign steps (run in PyTorch):"]
            lines += [f"  {f.operator}: {f.where}" for f in self.foreign]
        lines += ["", *table([("kernel", "kind", "sizes", "steps"), *_kernel_rows(self.kernels)])]
        return "\n".join(lines)


_LISTED = 20


def _listed(lines: Sequence[str]) -> str:
    """One line each, as many as a warning can hold."""
    rest = [f"… and {len(lines) - _LISTED} more: see lower86.explain"] if len(lines) > _LISTED else []
    return "".join(f"\n    {line}" for line in [*lines[:_LISTED], *rest])


def _kernel_rows(kernels: Sequence[KernelInfo]) -> list[tuple[str, ...]]:
    return [(str(k.number), k.kind, k.shape, f"{len(k.steps)}: {_short(k.steps[0])}") for k in kernels]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def kernel_infos(program: Program) -> tuple[KernelInfo, ...]:
    """Of each kernel of a program, in order."""
    steps: dict[int, list[Step]] = {}
    for step in native_steps(program):
        steps.setdefault(step.kernel, []).append(step)
    return tuple(
        KernelInfo(number, kind_of(kernel), shape_of(kernel, own), tuple(step.label for step in own))
        for number, kernel in enumerate(program.kernels)
        for own in (steps.get(number, []),)
    )


def kind_of(kernel: Kernel) -> str:
    """The kernel's kind, in words."""
    if isinstance(kernel, (Contraction, Depthwise)):
        return f"{type(kernel).__name__.lower()} {kernel.kind}"
    return type(kernel).__name__.lower()


def shape_of(kernel: Kernel, steps: Sequence[Step] = ()) -> str:
    """The kernel's sizes, in words: in the program's dims where all of these steps run it with the same ones."""
    if len({step.dims for step in steps}) == 1:
        dims = [str(size) for size in steps[0].dims]
        own = {f"d{i}": name if name.isalnum() or name.isidentifier() else f"({name})" for i, name in enumerate(dims)}
        kernel = renamed(kernel, own)

    def by(*sizes: object) -> str:
        between = "x" if all(isinstance(size, int) for size in sizes) else " x "
        return between.join(str(size) for size in sizes)

    if isinstance(kernel, Contraction):
        return f"{by(*kernel.batch, *kernel.m)} rows, {kernel.n} columns, k {by(*kernel.k)}"
    if isinstance(kernel, Rows):
        return f"{by(*kernel.kept)} rows of {by(*kernel.reduced)}"
    if isinstance(kernel, Attention):
        return (
            f"{by(kernel.batch, kernel.heads)} heads, {kernel.queries} queries, {kernel.keys} keys, {kernel.head_dim}"
        )
    if isinstance(kernel, Depthwise):
        return f"{by(*kernel.m)} outputs of {kernel.channels} channels, {by(*kernel.taps)} taps"
    if isinstance(kernel, Pack):
        return f"{by(*kernel.batch, kernel.k)} rows, {kernel.n} columns"
    if isinstance(kernel, Fill):
        return counted(len(kernel.bands), "band")
    return by(*kernel.sizes)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows
    ]
