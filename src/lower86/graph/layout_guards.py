"""Which of export's guards PyTorch's own bookkeeping of layouts made, and not the model.

A fake tensor's strides are computed by comparing them, and sizes with 0 and 1. Each comparison becomes a guard, and
some a bound of a dim: sizes for which a program gives the right result like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..program.program import Check
from ..program.sizes import common_factors_gone

_FILES = (
    "torch/_prims_common/__init__.py", "torch/_refs/__init__.py", "torch/_subclasses/fake_impls.py",
    "torch/_subclasses/functional_tensor.py", "torch/_ops.py", "torch/_decomp/decompositions.py",
    "torch/nn/modules/module.py", "torchao/quantization/quant_primitives.py",
)  # fmt: skip
"""Where PyTorch asks for sizes of 0 and 1, to know a layout, or torchao, to know blocks. Elsewhere the model does."""

_RETRACED = ("torch/_subclasses/functional_tensor.py", "torch/nn/modules/module.py")
"""Where guards come from that no line of the model made: of a trace of the trace, which has only layouts to add."""

_VIEWED = re.compile(
    r"torch\.ops\.aten\.(view|reshape|_unsafe_view|permute|transpose|contiguous|clone|flatten|unflatten|pixel_unshuffle)\."
)
"""Lines of a graph that only move elements: what is asked there but for equality, is asked for strides."""

_ORDERS: Mapping[str, tuple[str, ...]] = {
    "torch/_prims_common/__init__.py": (
        "check_contiguous_sizes_strides", "is_contiguous", "is_channels_last_contiguous_2d",
        "is_channels_last_contiguous_3d", "are_strides_like_channels_last", "are_strides_like_channels_last_or_false",
        "should_swap", "ge",
    ),
    "torch/_refs/__init__.py": ("_reshape_view_helper", "_reshape_view_helper_core_alg"),
    "torch/_prims/__init__.py": ("_collapse_view_helper",),
    "torch/_decomp/decompositions.py": ("matmul",),
}  # fmt: skip
"""Functions that compare strides, or sizes on the way to a view: whatever they find unequal, no value differs."""


def is_about_layout(place: Any, check: Check) -> bool:
    """Whether a guard made at `place` (torch's SLoc) says nothing that a value depends on."""
    frame = getattr(place, "framework_loc", None)
    file, function = str(getattr(frame, "filename", "")), str(getattr(frame, "name", ""))
    if check.relation != "==":
        line = getattr(place, "maybe_user_loc", None)
        if any(file.endswith(end) and function in _ORDERS[end] for end in _ORDERS):
            return True
        if _VIEWED.search(line or "") or (line is None and file.endswith(_RETRACED)):
            return True
    return file.endswith(_FILES) and _is_special_case(check)


def least(environment: Any, expression: Any) -> int:
    """The least that an expression of dims has to be in every call, but for what layouts ask; 0 if nothing is known.

    Both are torch's: its shape environment, and sympy's expression.
    """
    lower = environment.bound_sympy(expression).lower
    found = int(lower) if lower.is_Integer else 0
    if not expression.is_Symbol and len(expression.free_symbols) == 1:
        (symbol,) = expression.free_symbols
        slope, free = expression.diff(symbol), least(environment, symbol)
        return max(0, int(expression.subs(symbol, free))) if slope.is_Integer and slope > 0 else found
    # Export infers 2 where it only means "not fixed at 0 or 1"; the program has no such special cases.
    if found <= 2:
        return 0
    asked = getattr(environment, "var_to_range_sloc", {}).get(expression)
    place = getattr(getattr(asked, "lower", None), "framework_loc", None)
    return 0 if str(getattr(place, "filename", "")).endswith((*_FILES, *_ORDERS)) else found


def _is_special_case(check: Check) -> bool:
    """Whether it says no more than that a size is not 0 or 1, which layouts treat by themselves and programs do not."""
    left, right = common_factors_gone(check.left, check.right)
    if check.relation == "!=":
        return left in (0, 1) or right in (0, 1)
    return (check.relation == "<=" and left in (1, 2)) or (check.relation == "<" and left in (0, 1))
