"""The figures of the performance page as SVG files, each in light and in dark: contenders by case, and the roofline.

A file names the figures it shows by a digest, so that it can be told whether it is current without drawing it: what
matplotlib draws differs a little from version to version.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lower86.report.page.drawing import INK, figure
from lower86.report.page.roof import Roof, draw_roof

from .names import OWN, TITLES, ordered
from .results import Results
from .tables import title

_THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {"ink": "#1f2328", "muted": "#57606a", "line": "#c4c9cf", "accent": "#c2410c"},
    "dark": {"ink": "#e6e8eb", "muted": "#a3abb5", "line": "#4b5360", "accent": "#fb923c"},
}
NAMES = tuple(f"{name}-{theme}.svg" for name in ("models", "roofline") for theme in _THEMES)
"""All files that there may be."""
_LOOKS: Mapping[str, tuple[str, str]] = {
    OWN: ("#ea580c", "D"), "OpenVINO int8": ("#3b82f6", "o"), "ONNX Runtime static": ("#16a34a", "s"),
    "ONNX Runtime dynamic": ("#84a98c", "s"), "Inductor int8": ("#a855f7", "^"), "torchao lowering": ("#d4a017", "v"),
    "PyTorch fp32": ("#8b949e", "x"),
}  # fmt: skip
"""Colour and marker; seen well on white and on nearly black."""
_HEIGHTS = ((128, "#3b82f6"), (16, "#16a34a"), (1, "#a855f7"))
"""Rows of linear kernels, and their colour; others are of the last."""


def figures(results: Results) -> dict[str, str]:
    """Contents by file name, of the figures for which there is something to show."""
    drawn: dict[str, str] = {}
    for name, (points, draw, size, label) in _pictures(results).items():
        plain = figure(f"performance-{name}", size, 8, draw, label)
        for theme, colors in _THEMES.items():
            drawn[f"{name}-{theme}.svg"] = _file(plain, colors, size, digest(points))
    return drawn


def digests(results: Results) -> dict[str, str]:
    """The digest of what each file of `figures` shows, without drawing it."""
    return {
        f"{name}-{theme}.svg": digest(points) for name, (points, *_) in _pictures(results).items() for theme in _THEMES
    }


def digest(points: Any) -> str:
    """Of plain data."""
    return hashlib.sha256(json.dumps(points).encode()).hexdigest()[:16]


def digest_of(text: str) -> str:
    """The digest that a file names; "" if it has none."""
    found = re.search(r'data-of="([0-9a-f]+)"', text)
    return found[1] if found else ""


_Picture = tuple[Any, Callable[[Any], None], tuple[float, float], str]


def _pictures(results: Results) -> dict[str, _Picture]:
    found: dict[str, _Picture] = {}
    if ratios := _ratios(results):
        size = 7.2, 1.0 + 0.24 * len(ratios)
        found["models"] = ratios, lambda drawn: _draw_models(drawn, ratios), size, "Time of each model in lower86's"
    peaks, models, kernels = results.peaks, _models(results), _kernels(results)
    if peaks is not None and (models or kernels):
        roof = Roof(peaks.int8_macs_per_second, peaks.bytes_per_second)
        points = [models, kernels, roof.peak, roof.bandwidth]
        found["roofline"] = points, lambda drawn: _draw_roofline(drawn, roof, models, kernels), (7.2, 4.4), "Roofline"
    return found


def _ratios(results: Results) -> dict[str, dict[str, float]]:
    """By title and contender: how many times as long as lower86."""
    found = {}
    for case in ordered(results.models, TITLES):
        known = {row.name: row.ratio for row in results.models[case] if row.ratio is not None and row.name in _LOOKS}
        if len(known) > 1:
            found[title(case)] = known
    return found


def _models(results: Results) -> list[tuple[float, float]]:
    """Intensity and rate, in the order of the table."""
    found = results.roofline
    return [(found[case].intensity, found[case].macs_per_second) for case in ordered(found, TITLES)]


def _kernels(results: Results) -> list[tuple[int, float, float]]:
    """Rows, intensity and rate."""
    rows = () if results.kernels is None else results.kernels.rows
    return [(row.m, row.intensity, row.macs_per_second) for row in rows]


def _draw_models(drawn: Any, ratios: Mapping[str, Mapping[str, float]]) -> None:
    axes = drawn.subplots()
    axes.set_xscale("log")
    names = [name for name in _LOOKS if any(name in row for row in ratios.values())]
    for name in names:
        color, marker = _LOOKS[name]
        points = [(row[name], place) for place, row in enumerate(ratios.values()) if name in row]
        order = 3 if name == OWN else 2
        axes.plot(*zip(*points, strict=True), marker, color=color, markersize=5, label=name, alpha=0.9, zorder=order)
    most = max(ratio for row in ratios.values() for ratio in row.values())
    least = min(ratio for row in ratios.values() for ratio in row.values())
    ticks = [x for x in (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200) if least / 1.3 <= x <= most * 1.2]
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(ratios) - 0.5, -0.5), xlim=(least / 1.15, most * 1.2))
    axes.set_xlabel(f"times as long as {OWN}, a logarithmic scale")
    axes.grid(True)
    axes.set_axisbelow(True)
    drawn.legend(loc="outside upper left", ncols=4, fontsize="small", frameon=False)


def _draw_roofline(
    drawn: Any, roof: Roof, models: list[tuple[float, float]], kernels: list[tuple[int, float, float]]
) -> None:
    axes = drawn.subplots()
    draw_roof(axes, roof, [*models, *((intensity, rate) for _, intensity, rate in kernels)])
    known = dict(_HEIGHTS)
    for m in sorted({m for m, _, _ in kernels}, reverse=True):
        points = [(intensity, rate / 1e9) for rows, intensity, rate in kernels if rows == m]
        color, label = known.get(m, _HEIGHTS[-1][1]), f"linear kernels of {m} row{'s' if m > 1 else ''}"
        look = {"color": color, "markersize": 3.5, "markeredgewidth": 0, "alpha": 0.7, "label": label}
        axes.plot(*zip(*points, strict=True), "o", **look)
    for number, (intensity, rate) in enumerate(models, 1):
        axes.plot([intensity], [rate / 1e9], "D", color=_LOOKS[OWN][0], markersize=4.5, markeredgewidth=0,
                  label="models, whole calls" if number == 1 else None)  # fmt: skip
        axes.annotate(str(number), (intensity, rate / 1e9), xytext=(3, 3), textcoords="offset points", color=INK,
                      fontsize=7)  # fmt: skip
    axes.legend(loc="lower right", fontsize="small")


def _file(plain: str, colors: Mapping[str, str], size: tuple[float, float], digested: str) -> str:
    """An element of a page as a file of its own, its colours filled in."""
    width, height = (round(inches * 110) for inches in size)
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" data-of="{digested}" '
    )
    text = re.sub(r"var\(--(\w+)\)", lambda found: colors[found[1]], plain.replace("<svg ", root, 1))
    return text + "\n"
