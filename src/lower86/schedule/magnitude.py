"""How large a body's values can be: a bound that shows where neither NaN nor infinity can come up.

What an integer contraction gives, scaled and shifted by constants and by other dequantized values, is finite; its
quantization need not ask for NaN, which saves a third of it. Any doubt is an infinite bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..program.body import Node
from ..program.dtypes import DTYPES
from .emission import Emission

LARGEST = 1e37
"""Bound below which float32 arithmetic of a few steps neither overflows nor makes a NaN."""


def is_finite(e: Emission, node: int) -> bool:
    """Whether a body node is surely a finite number."""
    return _bound(e, node, {}) < LARGEST


def _bound(e: Emission, position: int, known: dict[int, float]) -> float:
    if position not in known:
        node = e.body.nodes[position]
        limits = [_bound(e, a, known) for a in node.args] if node.op in _RULES else []
        known[position] = _RULES[node.op](limits) if node.op in _RULES else _leaf(e, position, node)
    return known[position]


def _leaf(e: Emission, position: int, node: Node) -> float:
    if node.op == "value":
        return 2.0**31 if position in e.integers else math.inf
    if node.op == "const":
        return abs(float(node.attrs[0]))  # type: ignore[arg-type]
    if node.op == "param":
        return abs(e.params[int(node.attrs[0])][1])  # type: ignore[arg-type]
    if node.op != "load":
        return math.inf
    if DTYPES[node.dtype].size == 1:
        return 255.0
    value = e.plan.values[e.slots[int(node.attrs[0])][0]]  # type: ignore[arg-type]
    if value.place != "constant" or DTYPES[node.dtype].kind != "float":
        return math.inf
    numbers = np.abs(e.plan.constants[value.index])
    return float(numbers.max(initial=0.0)) if np.isfinite(numbers).all() else math.inf


_RULES: Mapping[str, Callable[[list[float]], float]] = {
    "add": sum,
    "sub": sum,
    "mul": lambda of: 0.0 if 0.0 in of else math.prod(of),
    "neg": sum,
    "abs": sum,
    "cast": sum,
    "max": max,
    "min": max,
    "select": lambda of: max(of[1:]),
    "dequantize": lambda of: (of[0] + of[2]) * of[1],
    "sigmoid": lambda of: 1.0 if of[0] < LARGEST else math.inf,
    "tanh": lambda of: 1.0 if of[0] < LARGEST else math.inf,
    "silu": sum,
    "gelu": sum,
}
"""The bound of a result from its operands'."""
