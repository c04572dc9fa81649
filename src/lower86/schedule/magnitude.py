"""How large a body's values can be: a bound that shows where neither NaN nor infinity can come up.

What an integer contraction gives, scaled and shifted by constants and by other dequantized values, is a number of a
known size; its quantization need not ask for NaN, nor clamp before it converts, which saves half of it. Any doubt is an
infinite bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..program.body import Node
from ..program.dtypes import DTYPES
from .emission import Emission

LARGEST_STEP = 2.0**30
"""Integers up to here are safe from overflow as int32, whatever rounding has done to the bound."""
_LARGEST = 1e37
_LARGEST_F16 = 65504.0


def bound_of(e: Emission, node: int) -> float:
    """What the absolute value of a body node surely does not exceed; infinite where that is not known."""
    bound = _bound(e, node, {})
    return bound if bound < _LARGEST else math.inf


def _bound(e: Emission, position: int, known: dict[int, float]) -> float:
    if position not in known:
        node = e.body.nodes[position]
        limits = [_bound(e, a, known) for a in node.args] if node.op in _RULES else []
        known[position] = _RULES[node.op](limits) if node.op in _RULES else _leaf(e, position, node)
        if node.dtype == "f16" and known[position] > _LARGEST_F16:
            known[position] = math.inf
    return known[position]


def _leaf(e: Emission, position: int, node: Node) -> float:
    if node.op == "value":
        return 2.0**31 if position in e.integers else math.inf
    if node.op == "const":
        return abs(float(node.constant))
    if node.op == "param":
        return abs(e.params[node.number][1])
    if node.op != "load":
        return math.inf
    if DTYPES[node.dtype].size == 1:
        return 255.0
    value = e.plan.values[e.slots[node.number][0]]
    if value.place != "constant" or DTYPES[node.dtype].kind != "float":
        return math.inf
    numbers = np.abs(_numbers(e.plan.constants[value.index], node.dtype))
    return float(numbers.max(initial=0.0)) if np.isfinite(numbers).all() else math.inf


def _numbers(elements: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """A constant's elements as NumPy computes with them."""
    return (elements.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else elements


_RULES: Mapping[str, Callable[[list[float]], float]] = {
    "add": sum,
    "sub": sum,
    "mul": lambda of: math.inf if math.inf in of else math.prod(of),
    "fma": lambda of: math.inf if math.inf in of else of[0] * of[1] + of[2],
    "neg": sum,
    "abs": sum,
    "cast": sum,
    "max": max,
    "min": max,
    "select": lambda of: max(of[1:]),
    "dequantize": lambda of: (of[0] + of[2]) * of[1],
    "sigmoid": lambda of: 1.0 if of[0] < _LARGEST else math.inf,
    "tanh": lambda of: 1.0 if of[0] < _LARGEST else math.inf,
    "silu": sum,
    "gelu": sum,
    "gelu_coarse": sum,
}
"""The bound of a result from its operands'."""
