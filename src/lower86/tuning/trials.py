"""Configurations, each converted, lowered, and measured once: the metric of what really runs, and its latency."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.fx import GraphModule

from ..codegen.target import resolve_target
from ..frontend import torchao
from ..frontend.export import export_module
from ..lowered import LoweredModule
from ..lowering import lower_exported
from ..quantization.calibration import Call
from .bound import Bound
from .journal import Journal
from .latency import ratio_of, seconds_of
from .layers import Layer
from .narrow import can_be_narrow, narrowed
from .report import Configuration
from .variant import floated

Built = tuple[GraphModule, LoweredModule]


class TimeIsUp(Exception):  # it is no error: the search ends with the best so far
    """One more configuration would not be measured within the budget."""


class Trials:
    """All that was tried. The programs of the whole int8 one, the whole float one and the best one are kept.

    `narrow`: float linears and convolutions run in bf16.
    """

    def __init__(
        self,
        prepared: GraphModule,
        layers: Sequence[Layer],
        call: Call,
        metric: Callable[[LoweredModule], float],
        bound: Bound,
        journal: Journal,
        deadline: float,
        tell: Callable[[str], None],
    ) -> None:
        self._prepared, self._layers, self._call, self._metric = prepared, list(layers), call, metric
        self._bound, self._journal, self._deadline, self._tell = bound, journal, deadline, tell
        self._built: dict[frozenset[str], Built] = {}
        self._longest = 0.0
        self.narrow = False
        self._tried: dict[frozenset[str], Configuration] = {}
        self._remember()

    def _remember(self) -> None:
        """Takes what was measured before."""
        if self._journal.seconds is not None:
            tried = self._journal.tried(self.float_dtype).items()
            self._tried = {floats: self._configuration(floats, *measured) for floats, measured in tried}

    @property
    def float_dtype(self) -> str:
        """What linears and convolutions in float run in, of a float32 model."""
        return "bf16" if self.narrow else "float32"

    @property
    def names(self) -> list[str]:
        """Of all layers."""
        return [layer.name for layer in self._layers]

    @property
    def tried(self) -> list[Configuration]:
        """All configurations, the fastest first."""
        return sorted(self._tried.values(), key=lambda one: one.seconds)

    @property
    def best(self) -> Configuration:
        """The fastest that meets the bound; if none does, the one with the highest metric."""
        met = [one for one in self.tried if one.met]
        return met[0] if met else max(self.tried, key=lambda one: one.metric)

    def measure(self, floats: Iterable[str], *, anyhow: bool = False) -> Configuration:
        """The configuration with these layers in float; TimeIsUp if it is a new one for which there is no time.

        With `anyhow`, the budget is not asked.
        """
        wanted = frozenset(floats)
        if wanted in self._tried:
            return self._tried[wanted]
        start = time.monotonic()
        if not anyhow:
            self.check_time(self._longest)
        _, lowered = self.built(wanted)
        value = self._metric(lowered)
        lowered.reset_state()
        value = value if not math.isnan(value) else -math.inf
        ratio = 1.0
        if wanted:
            ratio = ratio_of(lowered, self.built(())[1], self._call)
        else:
            self._journal.keep_seconds(seconds_of(lowered, self._call))
        self._journal.keep_configuration(wanted, self.float_dtype, value, ratio)
        made = self._tried[wanted] = self._configuration(wanted, value, ratio)
        self._longest = max(self._longest, time.monotonic() - start)
        self._forget()
        self._tell(str(made))
        return made

    def choose_narrow(self, *, always: bool) -> None:
        """Has float layers run in bf16 from now on, if all of them in it lose a quarter of the bound at most."""
        if not can_be_narrow(self._layers):
            return
        drops = self._journal.numbers("bf16")
        if not drops and not always:
            self.narrow = True
            _, lowered = self.built(self.names)
            drops = {"drop": self._bound.drop(self._metric(lowered))}
            lowered.reset_state()
            self._journal.keep_numbers("bf16", drops)
        self.narrow = always or drops["drop"] <= self._bound.allowed / 4  # a NaN does not
        if not self.narrow:
            self._built.pop(frozenset(self.names), None)
        self._remember()

    def check_time(self, needed: float = 0.0) -> None:
        """Raises TimeIsUp if so many seconds are no longer left."""
        if time.monotonic() + needed > self._deadline:
            raise TimeIsUp

    def built(self, floats: Iterable[str]) -> Built:
        """The quantized and the lowered module of a configuration."""
        wanted = frozenset(floats)
        if wanted not in self._built:
            given_back = [layer for layer in self._layers if layer.name in wanted]
            changed = floated(self._prepared, given_back)
            quantized = torchao.convert(narrowed(changed, given_back) if self.narrow else changed)
            # What convert returns is a graph, whose strict export takes twice as long and gives the same.
            module = export_module(quantized, self._call.args, dict(self._call.kwargs), strict=False)
            self._built[wanted] = quantized, lower_exported(module, resolve_target(None))
        return self._built[wanted]

    def _forget(self) -> None:
        kept = {frozenset[str](), frozenset(self.names), frozenset(self.best.floats)}
        self._built = {floats: built for floats, built in self._built.items() if floats in kept}

    def _configuration(self, floats: frozenset[str], value: float, ratio: float) -> Configuration:
        seconds: Any = self._journal.seconds
        return Configuration(
            floats=tuple(name for name in self.names if name in floats),
            metric=value,
            drop=self._bound.drop(value),
            met=self._bound.holds(value),
            seconds=seconds * ratio,
            ratio=ratio,
        )
