"""The roofline: what a machine can do at most with work of some intensity, and the axes that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .drawing import INK, imported


@dataclass(frozen=True)
class Roof:
    """`peak` in multiply-accumulates a second, `bandwidth` in bytes a second."""

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The multiply-accumulates a byte from which on memory is no limit."""
        return self.peak / self.bandwidth

    def reach(self, intensity: float) -> float:
        """Multiply-accumulates a second, at most, where each byte of memory gives so many."""
        return min(self.peak, intensity * self.bandwidth)


def draw_roof(axes: Any, roof: Roof, points: Sequence[tuple[float, float]]) -> None:
    """Logarithmic axes around `points`, of intensity and multiply-accumulates a second, with the roof over them."""
    ticker = imported("matplotlib.ticker")
    low = min(*(intensity for intensity, _ in points), roof.ridge) / 2
    high = max(*(intensity for intensity, _ in points), roof.ridge) * 2
    bottom = min(*(rate for _, rate in points), roof.reach(low)) / 1.5 / 1e9
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(bottom, roof.peak * 1.8 / 1e9))
    axes.set_xlabel("multiply-accumulates a byte")
    axes.set_ylabel("GMAC/s")
    axes.grid(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_locator(ticker.NullLocator())
    corners = [(x, roof.reach(x) / 1e9) for x in (low, roof.ridge, high)]
    axes.plot(*zip(*corners, strict=True), color=INK, linewidth=1.2)
    axes.text(high, roof.peak * 1.08 / 1e9, f"{roof.peak / 1e9:.0f} GMAC/s int8 ", ha="right", va="bottom")
    axes.annotate(
        f" memory, {roof.bandwidth / 1e9:.0f} GB/s", corners[0], xytext=(12, 2), textcoords="offset points",
        va="center", ha="left",
    )  # fmt: skip
