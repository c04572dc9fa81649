"""The charts of a report: roofline, waterfall, accuracy. Each comes wide and narrow, to be read on phones, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .drawing import ACCENT, COLORS, LINE, MUTED, SECOND, figure
from .facts import Facts, StepFacts
from .flow import PRECISIONS
from .roof import Roof, draw_roof

_WIDTHS = {"wide": 9.6, "narrow": 4.7}
"""Inches."""
_FONTS = {"wide": 8, "narrow": 9}
"""Points: a phone shows them as they are, a wider window larger."""
_MOST_ROWS = 80
"""Of a waterfall."""


@dataclass(frozen=True)
class Chart:
    """The same picture twice, as SVG."""

    wide: str
    narrow: str


def _chart(name: str, title: str, height: Callable[[bool], float], draw: Callable[[Any, bool], None]) -> Chart:
    def one(kind: str) -> str:
        narrow = kind == "narrow"
        size = _WIDTHS[kind], height(narrow)
        return figure(f"{name}-{kind}", size, _FONTS[kind], lambda drawn: draw(drawn, narrow), title)

    return Chart(one("wide"), one("narrow"))


def roofline(facts: Facts) -> Chart | None:
    """Multiply-accumulates a second over those a byte, with what the machine can do; None where nothing is multiplied.

    The area of a point is its time.
    """
    known = [step for step in facts.steps if step.intensity and step.macs_per_second]
    if not known:
        return None
    roof = Roof(facts.machine.peak, facts.machine.bandwidth)
    points = [(step.intensity or 1, step.macs_per_second or 1) for step in known]

    def draw(drawn: Any, narrow: bool) -> None:
        axes = drawn.subplots()
        draw_roof(axes, roof, points)
        for step in sorted(known, key=lambda step: -step.seconds):
            size = 4 + 26 * math.sqrt(step.share) * (0.7 if narrow else 1)
            axes.plot(
                [step.intensity], [(step.macs_per_second or 0) / 1e9], "o", color=COLORS[step.precision],
                markersize=size, markeredgewidth=0, alpha=0.65, gid=f"step-{step.number}",
            )  # fmt: skip
        _legend(axes, {step.precision for step in known}, "lower right")

    return _chart("roofline", "Roofline", lambda narrow: 4.0 if narrow else 4.6, draw)


def waterfall(facts: Facts) -> Chart | None:
    """When each step of a call runs; the shortest ones between two others are one row where there are too many."""
    rows = rows_of(facts.steps, _MOST_ROWS)
    if not rows:
        return None

    def draw(drawn: Any, narrow: bool) -> None:
        axes = drawn.subplots()
        begin, names = 0.0, []
        for place, row in enumerate(rows):
            took = sum(step.seconds for step in row) * 1e6
            main = max(row, key=lambda step: step.seconds)
            (bar,) = axes.barh([place], [took], left=[begin], height=0.72, color=COLORS[main.precision], linewidth=0)
            bar.set_gid(f"step-{main.number}")
            begin += took
            names.append(_row_name(row, 18 if narrow else 46))
        axes.set_yticks(range(len(rows)), names, fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, begin * 1.02 or 1))
        axes.set_xlabel("µs since the call began")
        axes.xaxis.grid(True)
        axes.set_axisbelow(True)
        _legend(axes, {step.precision for step in facts.steps}, "lower left" if len(rows) > 8 else "best")

    return _chart("waterfall", "Latency waterfall", lambda narrow: 1.1 + (0.165 if narrow else 0.155) * len(rows), draw)


def rows_of(steps: Sequence[StepFacts], most: int) -> list[list[StepFacts]]:
    """The steps in order, a row each or, where they are more than `most`, the shortest of them in rows of several."""
    if len(steps) <= most:
        return [[step] for step in steps]
    longest = sorted(steps, key=lambda step: -step.seconds)[: most // 2]
    alone = {step.number for step in longest}
    rows: list[list[StepFacts]] = []
    for step in steps:
        if step.number in alone or not rows or rows[-1][-1].number in alone:
            rows.append([])
        rows[-1].append(step)
    return rows


def accuracy(facts: Facts) -> Chart | None:
    """Signal to noise along the model, and what is clipped; None without a comparison."""
    rows = sorted(facts.accuracy or (), key=lambda row: row["number"])
    if not rows:
        return None

    def draw(drawn: Any, narrow: bool) -> None:
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for (name, label), (color, style) in zip(_CURVES.items(), _LOOKS, strict=True):
            known = [(row["number"], row[name]["sqnr"]) for row in rows if row[name] is not None]
            heights = [min(max(sqnr, _FLOOR), _CEILING) for _, sqnr in known]
            numbers = [number for number, _ in known]
            # A marker of its own for each of thousands would take megabytes, and hide the curve.
            marker = "." if len(rows) <= _MOST_MARKERS else ""
            upper.plot(numbers, heights, style, color=color, label=label, marker=marker, markersize=3, linewidth=0.8)
        upper.set_ylabel("SQNR, dB")
        upper.grid(True)
        upper.set_ylim(_FLOOR, _CEILING + 5)
        drawn.legend(loc="outside upper left", ncols=1 if narrow else 2, fontsize="small", frameon=False)
        clipped = [(row["number"], 100 * (row["saturation"] or 0)) for row in rows if row["saturation"]]
        # All bars are one line with gaps.
        xs, ys = [x for at, _ in clipped for x in (at, at, at)], [y for _, up in clipped for y in (0, up, math.nan)]
        lower.plot(xs, ys, color=SECOND, linewidth=min(3, 600 / len(rows)), solid_capstyle="butt")
        lower.set_ylim(bottom=0)
        lower.set_ylabel("clipped, %")
        lower.set_xlabel("values in the model's order")

    return _chart("accuracy", "Accuracy along the model", lambda narrow: 4.4 if narrow else 4.8, draw)


_CURVES: Mapping[str, str] = {
    "quantization": "quantized against float",
    "quantization_here": "of it arising here",
    "compiled": "compiled against quantized",
    "compiled_here": "of that arising here",
}
_LOOKS = ((ACCENT, "-"), (ACCENT, ":"), (SECOND, "-"), (SECOND, ":"))
_MOST_MARKERS = 200
_FLOOR, _CEILING = -20, 160
"""dB that are drawn; equal values are at the upper end."""


def _legend(axes: Any, present: set[str], place: str) -> None:
    for name in PRECISIONS:
        if name in present:
            axes.plot([], [], "s", color=COLORS[name], label=PRECISIONS[name], markersize=5)
    axes.legend(loc=place, fontsize="small", labelcolor=MUTED, edgecolor=LINE)


def _row_name(row: Sequence[StepFacts], most: int) -> str:
    first, last = row[0], row[-1]
    if len(row) > 1:
        return f"{first.number} … {last.number}: {len(row)} short steps"[:most]
    name = first.module or first.nodes[0]
    return f"{first.number} {name if len(name) < most - 4 else '…' + name[5 - most :]}"
