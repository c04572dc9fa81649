"""The picture of a search: accuracy against latency."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from ..needed import needed


def draw(
    path: str | os.PathLike[str],
    points: Sequence[tuple[float, float, bool]],
    front: Sequence[tuple[float, float]],
    chosen: tuple[float, float],
    exact: float,
    least: float,
) -> None:
    """Writes it. points: seconds, metric, whether within the bound; `exact` and `least` are metrics, as lines.

    Raises Lower86Error without matplotlib.
    """
    figure = needed("matplotlib.figure", "a picture", "plot", where="AccuracyReport.plot").Figure
    drawn = figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for met, label, color in ((True, "within the bound", "tab:blue"), (False, "beyond it", "tab:red")):
        those = [(seconds * 1e3, value) for seconds, value, within in points if within == met and math.isfinite(value)]
        if those:
            axes.scatter(*zip(*those, strict=True), label=label, color=color)
    known = [(seconds * 1e3, value) for seconds, value in front if math.isfinite(value)]
    axes.step([x for x, _ in known], [y for _, y in known], where="post", color="gray", label="Pareto front")
    axes.scatter([chosen[0] * 1e3], [chosen[1]], s=160, facecolors="none", edgecolors="black", label="chosen")
    axes.axhline(exact, linestyle="--", color="tab:green", label="float model")
    axes.axhline(least, linestyle=":", color="black", label="bound")
    axes.set_xlabel("latency (ms a call)")
    axes.set_ylabel("metric")
    axes.legend()
    drawn.savefig(path)
