"""Values that hold one number everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

from ..graph.arguments import arguments, is_call
from ..graph.edit import constant_of

_A = torch.ops.aten
_FULL = (_A.full.default, _A.full_like.default, _A.scalar_tensor.default)
_ZEROS = (_A.zeros.default, _A.zeros_like.default)


def number_in(module: GraphModule, value: Any) -> float | None:
    """The number itself, the one element of a constant, or what fills a tensor; None if that is not known."""
    if isinstance(value, int | float):
        return float(value)
    if is_call(value, *_FULL):
        given = arguments(value)
        filled = given.get("fill_value", given.get("s"))
        return float(filled) if isinstance(filled, int | float) else None
    if is_call(value, *_ZEROS):
        return 0.0
    constant = constant_of(module, value)
    if constant is None or constant.numel() != 1 or constant.is_complex():
        return None
    return float(constant)
