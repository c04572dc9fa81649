"""`quantize_with_accuracy_control`: the whole story on one page."""

from __future__ import annotations

import copy
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from ..codegen.target import resolve_target
from ..errors import Lower86Error, Lower86Warning
from ..frontend.quantizer import X86Quantizer
from ..lowered import LoweredModule, report_fallbacks
from ..quantization.account import QuantizationReport
from ..quantization.progress import tracking
from ..quantization.quantize import Given, accept, check_settings, settled
from ..quantization.recipe import Recipe, recipe_of
from ..runtime.threads import default_threads
from .bound import Bound, DropType, bound_of, check_bound
from .journal import Journal, fingerprint, key_of
from .latency import saved_seconds
from .layers import Layer, layers_of
from .metric import Metric, measured, measured_float, repeatable
from .noise import Noises
from .report import AccuracyReport, LayerAccount
from .search import order_of, shortest, taken_back
from .trials import TimeIsUp, Trials

_SUSPECTS = 8
"""At most so many layers' effect on the metric is measured one by one."""
_IDLE = 0.1
"""Of what may be lost, a layer that alone loses less than this is above suspicion."""
_FLOAT_DTYPES = ("float32", "bf16", "auto")
_WHERE = "quantize_with_accuracy_control"


def quantize_with_accuracy_control(
    model: nn.Module | torch.export.ExportedProgram,
    calibration: Iterable[Any],
    validation: Iterable[Any],
    metric: Metric,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    recipe: str | Recipe = "balanced",
    max_drop: float = 0.01,
    drop_type: DropType = "absolute",
    budget: float | None = None,
    search: Literal["latency"] = "latency",
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
    subset_size: int = 300,
    ignored: Iterable[Any] = (),
    quantizer: Any = None,
    transform: Callable[[Any], Any] | None = None,
    seed: int = 0,
    float_dtype: Literal["float32", "bf16", "auto"] = "float32",
) -> AccuracyReport:
    """Quantizes a model, and gives back to float what costs too much accuracy: the fastest mix within the bound.

    Everything is measured on the compiled program: the metric, and the latency of a call on `example_inputs`, in turns
    with the program that is all int8. If that loses more than `max_drop`, layers are ranked: by the error that each
    alone adds to the outputs, the worst of them by what they alone take off the metric, all by the time that int8 saves
    in them. Those that give most accuracy for least time become float until the bound is met; then those that were
    needless are taken back.

    Args:
        model, calibration, example_inputs, dynamic_shapes, recipe, subset_size, ignored, quantizer, transform, seed:
            as in `lower86.quantize`. The programs are for the CPU and the number of threads of this process.
        validation: what the metric goes through, as often as configurations are tried; of an iterator a list is made.
        metric: `metric(run, validation)`, a number, the higher the better, and the same each time. `run` is called as
            the model is, with the shapes that it was exported for.
        max_drop: by how much the metric may be lower than the float model's; a share of it with
            drop_type="relative".
        budget: seconds after which no more configurations are begun; whole int8 and, if needed, whole float are
            measured in any case.
        search: what is made small; "latency" is all there is.
        resume: a JSON file where all that is measured is kept. A later call with the same arguments goes on from there.
        progress: shows how far it is, on stderr.
        float_dtype: what linears and convolutions that are given back run in: "float32" (or what the model is in),
            "bf16", or "auto": bf16 if the CPU multiplies it, and all of them in it lose a quarter of the bound at most.

    Returns:
        An AccuracyReport: `.model`, `.lowered`, `.met`, `.pareto`, `str()`. If the bound cannot be met, `.met` is
        False, the most accurate configuration is returned, and there is a Lower86Warning.

    Raises:
        InputError: `validation` is empty; otherwise as `quantize`.
        Lower86Error: the metric fails or gives no number, which is first tried with the float model; an argument has no
            meaning; otherwise as `quantize`.
    """
    start = time.monotonic()
    _check(metric, max_drop, drop_type, budget, search, float_dtype)
    check_settings(model, quantizer, dynamic_shapes, seed)
    journal, chosen = Journal(resume), recipe_of(recipe)
    data = repeatable(validation)
    given = accept(model, calibration, example_inputs, dynamic_shapes, subset_size, transform)
    exact = measured_float(metric, _runnable(model), given.graph, data)
    bound = bound_of(exact, max_drop, drop_type)
    identity = fingerprint(given.graph, given.flat)

    def tell(line: str) -> None:
        if progress:
            print(f"accuracy control, {time.monotonic() - start:.0f} s: {line}", file=sys.stderr)

    tell(f"the float model's metric is {exact:.6g}")
    prepared, account = settled(given, chosen, ignored, quantizer, progress, seed)
    layers = layers_of(prepared)
    journal.open(
        key_of(
            identity, prepared.code, chosen, seed, _settings(quantizer), exact, getattr(metric, "__qualname__", ""),
            [tuple(leaf.shape) for leaf in torch.utils._pytree.tree_leaves(given.example) if hasattr(leaf, "shape")],
            resolve_target(None), default_threads(), float_dtype,
        )
    )  # fmt: skip

    def value(lowered: LoweredModule) -> float:
        return measured(metric, lowered, data, "a compiled program")

    deadline = start + budget if budget is not None else math.inf
    trials = Trials(prepared, layers, given.example, value, bound, journal, deadline, tell)
    found = _Search(trials, layers, journal, Noises(prepared, given.flat), given, bound, progress, float_dtype)
    found.run()
    return _reported(trials, layers, found, account, bound, time.monotonic() - start)


@dataclass
class _Search:
    """What is learnt of the layers on the way; by name."""

    trials: Trials
    layers: list[Layer]
    journal: Journal
    noises: Noises
    given: Given
    bound: Bound
    progress: bool
    float_dtype: str
    noise: dict[str, float] = field(default_factory=dict)
    effects: dict[str, float] = field(default_factory=dict)
    saved: dict[str, float] = field(default_factory=dict)
    stopped: bool = False

    def run(self) -> None:
        """Tries configurations until the best is known or time is up."""
        trials = self.trials
        if trials.measure((), anyhow=True).met or not self.layers:
            return
        if self.float_dtype == "bf16" or (self.float_dtype == "auto" and resolve_target(None).has_bf16_dots):
            trials.choose_narrow(always=self.float_dtype == "bf16")
        if not trials.measure(trials.names, anyhow=True).met:
            return
        try:
            self._rank()
            order = order_of(self.noise, self.effects, self.saved, trials.measure(()).seconds)
            # What breaks the bound when it alone is int8 has to be float, whatever it costs.
            needed = [name for name in order if self.effects.get(name, 0.0) > self.bound.allowed]
            order = needed + [name for name in order if name not in needed]
            enough = order[: shortest(order, self._meets, len(needed))]
            taken_back(enough, self._meets, len(needed))
        except TimeIsUp:
            self.stopped = True

    def _meets(self, floats: Iterable[str]) -> bool:
        return self.trials.measure(floats).met

    def _rank(self) -> None:
        """Noise of all, time saved in all, and the effect of the noisiest, until two in a row have next to none."""
        trials = self.trials
        self.saved = self.journal.numbers("saved")
        if not self.saved:
            programs = [trials.built(floats)[1] for floats in ((), trials.names)]
            self.saved = dict(saved_seconds(programs[0], programs[1], self.layers, self.given.example))
            self.journal.keep_numbers("saved", self.saved)
        self.noise = self.journal.numbers("noise")
        if not self.noise:
            with tracking(self.progress) as track:
                for layer in track(self.layers, "Rank layers"):
                    trials.check_time()
                    self.noise[layer.name] = self.noises.of(layer)
            self.journal.keep_numbers("noise", self.noise)
        whole, idle = trials.measure(trials.names), 0
        for name in sorted(self.noise, key=lambda name: self.noise[name])[:_SUSPECTS]:
            alone = trials.measure([other for other in trials.names if other != name])
            self.effects[name] = whole.metric - alone.metric
            idle = idle + 1 if self.effects[name] <= _IDLE * self.bound.allowed else 0
            if idle == 2:
                break


def _check(
    metric: object, max_drop: object, drop_type: object, budget: object, search: object, float_dtype: object
) -> None:
    if not callable(metric):
        raise Lower86Error(
            f"the metric is a {type(metric).__name__}, not a function",
            where=_WHERE,
            fix="give a function of (run, validation) that returns a number, the higher the better",
        )
    check_bound(max_drop, drop_type)
    is_number = isinstance(budget, (int, float)) and not isinstance(budget, bool) and budget > 0
    if budget is not None and not is_number:
        raise Lower86Error(f"budget={budget!r}", where=_WHERE, fix="give seconds above 0, or None for no limit")
    if search != "latency":
        raise Lower86Error(f"search={search!r}", where=_WHERE, fix='use "latency"')
    if float_dtype not in _FLOAT_DTYPES:
        raise Lower86Error(f"float_dtype={float_dtype!r}", where=_WHERE, fix=f"use one of {', '.join(_FLOAT_DTYPES)}")


def _runnable(model: nn.Module | torch.export.ExportedProgram) -> Callable[..., Any]:
    if isinstance(model, torch.export.ExportedProgram):
        return model.module(check_guards=False)
    training = isinstance(model, nn.Module) and any(module.training for module in model.modules())
    return copy.deepcopy(model).eval() if training and not isinstance(model, torch.fx.GraphModule) else model


def _settings(quantizer: Any) -> str:
    if isinstance(quantizer, X86Quantizer):
        return str(vars(quantizer._settings))
    return type(quantizer).__qualname__


def _reported(
    trials: Trials, layers: list[Layer], found: _Search, account: QuantizationReport, bound: Bound, seconds: float
) -> AccuracyReport:
    best = trials.best
    quantized, lowered = trials.built(best.floats)
    quantized.meta["lower86"] = account
    accounts = tuple(
        LayerAccount(
            layer.name,
            layer.kind,
            layer.name in best.floats,
            found.noise.get(layer.name),
            found.effects.get(layer.name),
            found.saved.get(layer.name),
        )
        for layer in layers
    )
    report = AccuracyReport(
        model=quantized,
        lowered=lowered,
        exact=bound.exact,
        max_drop=bound.most,
        drop_type=bound.kind,
        chosen=best,
        configurations=tuple(trials.tried),
        layers=accounts,
        float_dtype=trials.float_dtype,
        stopped=found.stopped,
        seconds=seconds,
    )
    if not report.met:
        warnings.warn(Lower86Warning(f"quantize_with_accuracy_control: {report.sentence}"), stacklevel=3)
    report_fallbacks(lowered, "warn", float_is_meant=True)
    return report
