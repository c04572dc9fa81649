"""What accuracy control tried and chose: the model, a table, JSON, a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from typing import Any

from torch.fx import GraphModule

from ..counted import counted
from ..lowered import LoweredModule
from ..report.explanation import table
from .bound import Bound, DropType
from .picture import draw


@dataclass(frozen=True)
class Configuration:
    """A model with the layers `floats` in float and all others in int8, as it was measured, compiled.

    `drop` is that of the metric from the float model's, `met` whether it is within the bound; `seconds` a call takes,
    `ratio` times those of the program with all layers in int8, measured in turns with it.
    """

    floats: tuple[str, ...]
    metric: float
    drop: float
    met: bool
    seconds: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"layers in float: {len(self.floats)}, metric {self.metric:.6g}, drop {self.drop:.4g} "
            f"({'met' if self.met else 'not met'}), {self.seconds * 1e3:.4g} ms a call"
        )


@dataclass(frozen=True)
class LayerAccount:
    """What is known of a layer, None where it was not measured.

    `noise`: SQNR of the outputs in dB, with this layer alone rounded; `effect`: what this layer alone in int8 takes off
    the metric; `saved`: seconds that int8 saves in it.
    """

    name: str
    kind: str
    is_float: bool
    noise: float | None
    effect: float | None
    saved: float | None


@dataclass(frozen=True, eq=False)
class AccuracyReport:
    """What `quantize_with_accuracy_control` returns. `str()` is a table.

    model, lowered: the chosen configuration as `convert_pt2e` gives it, and compiled.
    met: whether it is within the bound; `sentence` says it in words.
    exact: the float model's metric. configurations: all that were tried, the fastest first.
    float_dtype: what linears and convolutions in float run in: "bf16", or "float32" for what the model is in.
    stopped: the budget ended the search. seconds: it took.
    """

    model: GraphModule = field(repr=False)
    lowered: LoweredModule = field(repr=False)
    exact: float
    max_drop: float
    drop_type: DropType
    chosen: Configuration
    configurations: tuple[Configuration, ...]
    layers: tuple[LayerAccount, ...]
    float_dtype: str
    stopped: bool
    seconds: float

    @property
    def met(self) -> bool:
        """Whether the bound is met."""
        return self.chosen.met

    @property
    def pareto(self) -> tuple[Configuration, ...]:
        """Those configurations than which no other is both at least as fast and at least as accurate; fastest first."""
        front: list[Configuration] = []
        for one in self.configurations:
            if not front or one.metric > front[-1].metric:
                front.append(one)
        return tuple(front)

    @property
    def sentence(self) -> str:
        """What came of it."""
        bound = f"{self.drop_type} bound of {self.max_drop:g}"
        tried, layers = counted(len(self.configurations), "configuration"), counted(len(self.layers), "layer")
        if not self.met:
            return (
                f"the {bound} cannot be met: of {tried}, all layers in float among "
                f"them, the best loses {self.chosen.drop:.4g}"
                if any(len(one.floats) == len(self.layers) for one in self.configurations)
                else f"the {bound} is not met: the best of {tried} loses {self.chosen.drop:.4g}"
            )
        stopped = "; the budget ended the search, so there may be a faster one" if self.stopped else ""
        return (
            f"the {bound} is met with {len(self.chosen.floats)} of {layers} in float, the fastest of "
            f"{tried} tried{stopped}"
        )

    def to_json(self) -> str:
        """All but the modules as JSON. Infinite numbers are "inf" and "-inf"."""
        names = ("exact", "max_drop", "drop_type", "float_dtype", "stopped", "seconds")
        found = {name: getattr(self, name) for name in names} | {"met": self.met, "sentence": self.sentence}
        found |= {name: dataclasses.asdict(one) for name, one in (("chosen", self.chosen),)}
        for name in ("configurations", "pareto", "layers"):
            found[name] = [dataclasses.asdict(one) for one in getattr(self, name)]
        return json.dumps(_plain(found), indent=1)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes a picture, of the kind that the path's ending says: all configurations, metric against latency.

        Needs matplotlib: Lower86Error without it.
        """
        points = [(one.seconds, one.metric, one.met) for one in self.configurations]
        front = [(one.seconds, one.metric) for one in self.pareto]
        least = self.exact - Bound(self.exact, self.max_drop, self.drop_type).allowed
        draw(path, points, front, (self.chosen.seconds, self.chosen.metric), self.exact, least)

    def _listed(self, floats: tuple[str, ...]) -> str:
        others = [layer.name for layer in self.layers if layer.name not in floats]
        if not floats or not others:
            return "all" if floats else "all in int8"
        few, but = (floats, "") if len(floats) <= len(others) else (tuple(others), "all but ")
        return but + ", ".join(few[:_NAMES]) + (", …" if len(few) > _NAMES else "")

    def __str__(self) -> str:
        head = f"{self.sentence[0].upper()}{self.sentence[1:]}. The float model's metric is {self.exact:.6g}."
        if self.float_dtype == "bf16":
            head += " Linears and convolutions in float are in bf16."
        front = set(self.pareto)
        rows = [("", "ms", "x int8", "metric", "drop", "bound", "layers in float")]
        for one in self.configurations:
            mark = "chosen" if one is self.chosen else "front" if one in front else ""
            rows.append(
                (
                    mark, f"{one.seconds * 1e3:.4g}", f"{one.ratio:.3f}", f"{one.metric:.6g}", f"{one.drop:+.4g}",
                    "met" if one.met else "–", f"{len(one.floats)}: {self._listed(one.floats)}",
                )
            )  # fmt: skip
        lines = [head, "", *(line[:_WIDTH] for line in table(rows))]
        if any(one.noise is not None for one in self.layers):
            about = [("layer", "kind", "runs in", "alone, dB", "alone, metric", "int8 saves, us")]
            for layer in sorted(self.layers, key=lambda one: one.noise if one.noise is not None else math.inf):
                about.append(
                    (
                        layer.name, layer.kind, "float" if layer.is_float else "int8",
                        "" if layer.noise is None else f"{layer.noise:.1f}",
                        "" if layer.effect is None else f"{-layer.effect:+.4g}",
                        "" if layer.saved is None else f"{layer.saved * 1e6:.1f}",
                    )
                )  # fmt: skip
            lines += ["", *table(about)]
        return "\n".join(lines)


_NAMES, _WIDTH = 6, 200
"""As many layers of a configuration are named, and as many characters of a line shown."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
