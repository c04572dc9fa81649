"""Writes docs/operators.md from the tables that decide: `python tools/operators_page.py`, or `--check` to compare.

Listed is the core ATen set, what export keeps whole, and whatever the tables know besides. An operator is *native* if a
table of the scheduler has it; *rewritten* if a pass of `normalize/` names it; *constant* if it has no tensor to depend
on; *refused* if PyTorch itself says that its result's size depends on data; and else *foreign*.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lower86.frontend.decompositions import KEEP
from lower86.schedule.activations import ACTIVATIONS
from lower86.schedule.arithmetic import ARITHMETIC
from lower86.schedule.choices import CHOICES
from lower86.schedule.constructors import CONSTRUCTORS
from lower86.schedule.division import DIVISION
from lower86.schedule.gathers import GATHERS
from lower86.schedule.joins import JOINS
from lower86.schedule.norms import NORMS
from lower86.schedule.reductions import REDUCTIONS
from lower86.schedule.trigonometry import TRIGONOMETRY
from lower86.schedule.views import MOVEMENT

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operators.md"
_A = torch.ops.aten
_PRODUCTS = (
    "linear.default", "matmul.default", "bmm.default", "mm.default", "convolution.default",
    "scaled_dot_product_attention.default",
)  # fmt: skip
"""What contraction, depthwise and attention kernels compute: no table, as they take operators apart by hand."""

FAMILIES: Mapping[str, Mapping[Any, Any]] = {
    "Matrix products, convolutions and attention": {
        getattr(getattr(_A, n.split(".")[0]), n.split(".")[1]): None for n in _PRODUCTS
    },
    "Arithmetic": {**ARITHMETIC, **DIVISION, **TRIGONOMETRY},
    "Comparisons and choices": CHOICES,
    "Activations": ACTIVATIONS,
    "Reductions": REDUCTIONS,
    "Softmax and norms": NORMS,
    "Reads at computed places": GATHERS,
    "Movement": MOVEMENT,
    "Joins": JOINS,
    "Constructors": CONSTRUCTORS,
}
"""The tables of native operators."""


@dataclass(frozen=True)
class Row:
    """Some overloads of an operator, how they run, and what there is to say about it."""

    name: str
    overloads: tuple[str, ...]
    section: str
    note: str


@cache
def native() -> dict[Any, tuple[str, str]]:
    """The family and the condition of every native operator; one with entries in two tables has both conditions."""
    found: dict[Any, tuple[str, str]] = {}
    for family, table in FAMILIES.items():
        for operator, entry in table.items():
            when = getattr(entry, "when", None)
            text = when.text if when is not None else ""
            first, earlier = found.get(operator, (family, ""))
            found[operator] = (first, "; or ".join(t for t in (earlier, text) if t))
    return found


@cache
def rewritten() -> set[Any]:
    """The operators that a pass names, of those that no table has."""
    named = {op for path in (ROOT / "src/lower86/normalize").glob("*.py") for op in _named(path)}
    return {op for op in named - set(native()) if not op._schema.name.startswith(("aten::sym_", "aten::_assert"))}


def _named(path: Path) -> Iterator[Any]:
    """The operators that a source file spells as `_A.name.overload`."""
    for node in ast.walk(ast.parse(path.read_text())):
        packet = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(packet, ast.Attribute) and isinstance(packet.value, ast.Name) and packet.value.id == "_A":
            assert isinstance(node, ast.Attribute)
            yield getattr(getattr(_A, packet.attr), node.attr)


def listed() -> set[Any]:
    """Every operator of the page."""
    core = {op for op in _every_operator() if torch.Tag.core in op.tags}
    kept = {op for op in _every_operator() if op._schema.name.removeprefix("aten::") in KEEP}
    ours = {op for op in set(native()) | rewritten() if op._schema.name.startswith("aten::")}
    return {op for op in core | kept | ours if _is_inference(op)}


def _every_operator() -> Iterator[Any]:
    for name in {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")}:
        packet = getattr(_A, name.removeprefix("aten::"), None)
        for overload in packet.overloads() if isinstance(packet, torch._ops.OpOverloadPacket) else ():
            yield getattr(packet, overload)


def _is_inference(operator: Any) -> bool:
    """No gradients, nothing written in place, no arithmetic on sizes: none of it is in a graph that is scheduled."""
    name = operator._schema.name
    return not ("backward" in name or operator._schema.is_mutable or name.startswith("aten::sym_"))


def status(operator: Any) -> tuple[str, str]:
    """The section of the page, and the note."""
    if operator in native():
        return native()[operator]
    if operator in rewritten():
        return "Rewritten", ""
    tags = set(operator.tags)
    if tags & {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}:
        return "Refused", ""
    if torch.Tag.nondeterministic_seeded in tags:
        return "Foreign", ""
    if not any("Tensor" in str(argument.type) for argument in operator._schema.arguments):
        return "Constant", ""
    return "Foreign", ""


def rows() -> list[Row]:
    """All rows, overloads of one operator together where they run alike."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for operator in sorted(listed(), key=str):
        _, name, overload = str(operator).split(".")
        grouped.setdefault((name, *status(operator)), []).append(overload)
    return [Row(name, tuple(overloads), section, note) for (name, section, note), overloads in grouped.items()]


_SECTIONS: Mapping[str, str] = {
    **dict.fromkeys(FAMILIES, ""),
    "Rewritten": "These are gone when the graph is scheduled: a pass of `lower86.normalize` says them by native ones.",
    "Constant": "These depend on no tensor: with fixed arguments, they are computed once, when a model is lowered.",
    "Foreign": "These run in PyTorch, on the program's own memory. `lower86.explain` lists them.",
    "Refused": "The size of these results, or a number, depends on data. Lowering fails and names the operator.",
}


def page() -> str:
    """The whole page."""
    every = rows()
    lines = [
        "# Operators",
        "",
        "Made by `python tools/operators_page.py` from the tables that decide; do not edit.",
        "",
        "How each operator of ATen runs in a lowered model: the core set, what export keeps whole, and more.",
        "Composite operators that are not listed are taken apart by export, mostly into these; `lstm` and `gru` into",
        "`lower86::lstm` and `lower86::gru`, which are loops of kernels.",
        "*Native* operators run in generated code. Their dtypes are float32, float64, bfloat16, float16, int64,",
        "int32, int16, int8, uint8 and bool, where the note does not narrow it; complex tensors are foreign.",
        "bfloat16 and float16 are computed in float32, and where a note says float32, they are meant, too.",
        "",
    ]
    for section, text in _SECTIONS.items():
        found = [row for row in every if row.section == section]
        if not found:
            continue
        title = section if text else f"{section} (native)"
        lines += [f"## {title}", "", *([text, ""] if text else [])]
        notes = any(row.note for row in found)
        heads = ("operator", "overloads", *(("when",) if notes else ()))
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for row in found:
            cells = [f"`{row.name}`", ", ".join(row.overloads), row.note][: len(heads)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Writes the page, or with `--check` fails if it is not the one there."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text() == page() else "docs/operators.md is out of date")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
