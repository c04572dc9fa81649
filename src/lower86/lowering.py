"""`lower_pt2e_quantized_to_x86`: the whole story on one page."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.fx import GraphModule

from .codegen.target import Target, resolve_target
from .errors import Lower86Error
from .frontend.export import export_module
from .int8 import to_int8
from .lowered import LoweredModule, report_fallbacks
from .normalize import normalize

_FALLBACKS = ("warn", "raise", "ignore")


def lower_pt2e_quantized_to_x86(
    model: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    *,
    example_kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
    on_fallback: str = "warn",
    target: str | Target | None = None,
) -> LoweredModule:
    """Lowers a PT2E-quantized model to compiled int8 code for this CPU.

    Args:
        model: what `convert_pt2e` returned, from any quantizer, decomposed or not. It is not modified.
        example_inputs: positional arguments of one call; shapes not named in `dynamic_shapes` are fixed to theirs.
        example_kwargs: keyword arguments of that call.
        dynamic_shapes: as in `torch.export.export`.
        on_fallback: what happens when a quantized contraction stays float or an operator runs in PyTorch: "warn" (once,
            with the list), "raise" (FallbackError) or "ignore". `lower86.explain` has the table either way.
        target: a `Target`, a level's name, or None for this CPU.

    Returns:
        A `torch.fx.GraphModule`: its graph is the INT8 graph, its call takes and gives what `model` does. Buffers that
        the model writes to begin as they are now, and are the new module's own.

    Raises:
        TargetError: the CPU lacks the instructions.
        ExportError: the model cannot be traced.
        GraphError: a part of it has no meaning as a program.
    """
    if on_fallback not in _FALLBACKS:
        raise Lower86Error(f"on_fallback={on_fallback!r}", fix=f"use one of {', '.join(_FALLBACKS)}")
    chosen = resolve_target(target)
    timings: dict[str, float] = {}
    clock = _Clock(timings)

    module = export_module(model, example_inputs, example_kwargs, dynamic_shapes)
    clock.stop("export")
    lowered = lower_exported(module, chosen)
    lowered.timings.update(timings)
    report_fallbacks(lowered, on_fallback)
    return lowered


def lower_exported(module: GraphModule, target: Target) -> LoweredModule:
    """What a module of `export_module` becomes; it is used up. May raise GraphError."""
    timings: dict[str, float] = {}
    clock = _Clock(timings)
    normalize(module)
    clock.stop("normalize")
    records = to_int8(module)
    clock.stop("int8")
    lowered = LoweredModule(module, module.graph, target, tuple(records))
    lowered.timings.update(timings)
    lowered.compiled()
    return lowered


class _Clock:
    """Seconds since the last stop, by stage."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings, self._last = timings, time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self._timings[stage] = now - self._last
        self._last = now
