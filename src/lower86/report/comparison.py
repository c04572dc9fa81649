"""What `lower86.compare` found: a row for each value of the quantized graph; a table, JSON, a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from typing import Any

from ..counted import counted
from ..errors import Lower86Error
from ..needed import needed
from .explanation import table


@dataclass(frozen=True)
class Distance:
    """How far values are from a reference: `sqnr` in dB (inf: equal), `most` the largest absolute difference.

    `one` and `more` are how many quantized values are one step off, and further; None where nothing is quantized.
    """

    sqnr: float
    most: float
    one: int | None = None
    more: int | None = None


@dataclass(frozen=True)
class Row:
    """One value of the quantized graph: what its node `node` gives, as `dtype`; `number` counts in graph order.

    `quantization` is the quantized model's distance from the float one, `quantization_here` what of it arises here,
    from the float model's own values; `saturation` the share of the values that the integers' range cuts off.
    `compiled` is the compiled program's distance from the quantized model, `compiled_here` what arises here, from the
    program's own values. None where that is not known: a value that is in no memory, but in registers of the kernel
    that computes the row with node `kernel` ("": nor there).
    """

    number: int
    node: str
    operator: str
    module: str
    line: str
    dtype: str
    quantization: Distance | None = None
    quantization_here: Distance | None = None
    saturation: float | None = None
    compiled: Distance | None = None
    compiled_here: Distance | None = None
    kernel: str = ""

    @property
    def worst(self) -> float:
        """The least SQNR of what arises in this row, in dB; inf where nothing does, or nothing is known."""
        return min((d.sqnr for d in (self.quantization_here, self.compiled_here) if d is not None), default=math.inf)


@dataclass(frozen=True)
class Comparison:
    """The rows, worst first. `str()` is a table."""

    rows: tuple[Row, ...]

    def in_order(self) -> list[Row]:
        """The rows as the model computes them."""
        return sorted(self.rows, key=lambda row: row.number)

    def to_json(self) -> str:
        """The rows as JSON: a list of objects, in the order of `rows`. Infinite numbers are "inf" and "-inf"."""
        return json.dumps([_plain(dataclasses.asdict(row)) for row in self.rows], indent=1)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """What `to_json` wrote. Raises Lower86Error for anything else."""
        try:
            rows = json.loads(text, parse_constant=_no_number)
            if not isinstance(rows, list):
                raise ValueError(f"it holds a {type(rows).__name__}, not a list of rows")
            return cls(tuple(_row(number, row) for number, row in enumerate(rows)))
        except (ValueError, RecursionError) as problem:
            raise Lower86Error(
                f"the text is no comparison: {problem}",
                where="Comparison.from_json",
                fix="give what Comparison.to_json or lower86 compare -o wrote",
            ) from problem

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes a picture, of the kind that the path's ending says: SQNR and clipping along the model.

        Needs matplotlib: Lower86Error without it.
        """
        figure = needed("matplotlib.figure", "a picture", "plot", where="Comparison.plot").Figure
        rows = self.in_order()
        drawn = figure(figsize=(max(8, 0.22 * len(rows)), 7), layout="constrained")
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for name, label in _CURVES.items():
            known = [(row.number, found.sqnr) for row in rows if (found := getattr(row, name)) is not None]
            heights = [min(max(sqnr, _FLOOR), _CEILING) for _, sqnr in known]
            upper.plot([number for number, _ in known], heights, label=label, marker=".")
        upper.set_ylabel(f"SQNR (dB; {_CEILING}: equal)")
        upper.legend()
        lower.bar([row.number for row in rows], [100 * (row.saturation or 0) for row in rows], color="tab:red")
        lower.set_ylabel("clipped (%)")
        names = [f"{row.module or row.node} ({row.operator})" for row in rows]
        lower.set_xticks([row.number for row in rows], names, rotation=90, fontsize=6)
        drawn.savefig(path)

    def __str__(self) -> str:
        numbers = {row.node: row.number for row in self.rows}
        lines: list[tuple[str, ...]] = [_HEADS]
        for row in self.rows:
            place = f"in the kernel of #{numbers[row.kernel]}" if row.kernel in numbers else "not in the program"
            place = row.dtype if row.compiled is not None else place
            module = row.module if len(row.module) <= _MODULE else "…" + row.module[1 - _MODULE :]
            lines.append((f"#{row.number}", *_figures(row), place, row.operator, module, row.line))
        held = sum(row.compiled is not None for row in self.rows)
        head = (
            f"{counted(len(self.rows), 'value')}, worst first; {held} of them in the compiled program's memory. SQNR "
            "in dB; `here`: of what arises in this row"
        )
        return "\n".join([head, "", *(line[:_WIDTH] for line in table(lines))])


_WIDTH, _MODULE = 200, 40
"""Characters of a line, and of a module's name, of which the end tells more."""
_HEADS = (
    "", "fp32:QDQ", "here", "most", "clipped", "QDQ:int8", "here", "most", "off by 1", "more",
    "in memory as", "operator", "module", "source",
)  # fmt: skip
_TEXTS = ("node", "operator", "module", "line", "dtype", "kernel")
_DISTANCES = ("quantization", "quantization_here", "compiled", "compiled_here")
_CURVES = {
    "quantization": "QDQ against fp32",
    "quantization_here": "QDQ against fp32, of this row alone",
    "compiled": "int8 program against QDQ",
    "compiled_here": "int8 program against QDQ, of this row alone",
}
_FLOOR, _CEILING = -20, 160
"""dB that are drawn."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} stands without quotes")


def _row(number: int, given: Any) -> Row:
    """A row of plain data, each field of its type."""
    where = f"row {number}"
    known = _fields(where, given, Row)
    distances: dict[str, Any] = {
        name: None if known[name] is None else _distance(f"{where}, {name}", known[name]) for name in _DISTANCES
    }
    texts: dict[str, Any] = {name: _typed(f"{where}, {name}", known[name], str) for name in _TEXTS}
    saturation = known["saturation"]
    return Row(
        _typed(f"{where}, number", known["number"], int),
        **texts,
        **distances,
        saturation=None if saturation is None else _real(f"{where}, saturation", saturation),
    )


def _distance(where: str, given: Any) -> Distance:
    known = _fields(where, given, Distance)
    counts = [None if known[name] is None else _typed(f"{where}, {name}", known[name], int) for name in ("one", "more")]
    return Distance(_real(where, known["sqnr"]), _real(where, known["most"]), *counts)


def _fields(where: str, given: Any, kind: type) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(given, dict) or sorted(given) != sorted(names):
        raise ValueError(f"{where} is not an object of {', '.join(names)}")
    return given


def _typed(where: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{where} is a {type(value).__name__}, not {kind.__name__}")
    return value


def _real(where: str, value: Any) -> float:
    if type(value) in (int, float) or value in ("inf", "-inf", "nan"):
        return float(value)
    raise ValueError(f"{where} holds {str(value)[:40]!r} in place of a number")


def _figures(row: Row) -> tuple[str, ...]:
    def decibels(found: Distance | None) -> str:
        return "" if found is None else "equal" if found.sqnr == math.inf else f"{found.sqnr:.1f}"

    def most(found: Distance | None) -> str:
        return "" if found is None else f"{found.most:.2g}"

    counted = row.compiled_here
    steps = ("", "") if counted is None or counted.one is None else (str(counted.one), str(counted.more))
    clipped = "" if row.saturation is None else f"{row.saturation:.2%}"
    return (
        decibels(row.quantization), decibels(row.quantization_here), most(row.quantization), clipped,
        decibels(row.compiled), decibels(row.compiled_here), most(row.compiled), *steps,
    )  # fmt: skip
