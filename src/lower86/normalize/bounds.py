"""What the elements of a value can be at least and at most, as far as that shows in how it is made.

Enough for attention masks: selections between numbers, tables of biases, sums of both, comparisons of positions, whose
bounds are those of 0 for False and 1 for True. Of what a call gives, only the dtype is known. None stands for "cannot
tell", and for anything that may be infinite or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, source_of, tensor_of
from ..graph.qparams import dequantized_constant
from .move_dequantize import MOVEMENT

_A = torch.ops.aten
Bounds = tuple[float, float]

_PICKS = (_A.index.Tensor, _A.select.int, _A.unsqueeze.default, _A.clone.default, _A._to_copy.default, *MOVEMENT)
_TABLES = (_A.embedding.default,)
_NUMBERS = (_A.full.default, _A.full_like.default, _A.new_full.default, _A.scalar_tensor.default)
_ZEROS = (_A.zeros.default, _A.zeros_like.default, _A.new_zeros.default)
_ONES = (_A.ones.default, _A.ones_like.default, _A.new_ones.default)
_CHOICES = (_A.where.self, _A.where.ScalarSelf, _A.where.ScalarOther, _A.where.Scalar)
_SUMS = (_A.add.Tensor, _A.sub.Tensor, _A.rsub.Scalar)
_PRODUCTS = (_A.mul.Tensor, _A.mul.Scalar)
AND = (_A.bitwise_and.Tensor, _A.logical_and.default, _A.__and__.Tensor)
OR = (_A.bitwise_or.Tensor, _A.logical_or.default, _A.__or__.Tensor)
_LESS: Mapping[Any, tuple[bool, bool]] = {
    _A.lt.Scalar: (False, False), _A.lt.Tensor: (False, False),
    _A.le.Scalar: (False, True), _A.le.Tensor: (False, True),
    _A.gt.Scalar: (True, False), _A.gt.Tensor: (True, False),
    _A.ge.Scalar: (True, True), _A.ge.Tensor: (True, True),
}  # fmt: skip
"""Comparisons: whether the second is to be the lesser one, and whether both may be equal."""

_FAR = 2.0**53
"""More elements than any tensor has."""


def bounds(module: GraphModule, value: Any) -> Bounds | None:
    """The least and the largest value that an element may have, both finite in its dtype; None if that is not known."""
    return _bounds(module, value, {})


def _bounds(module: GraphModule, value: Any, known: dict[Any, Bounds | None]) -> Bounds | None:
    if value not in known:
        if isinstance(value, (bool, int, float)):
            known[value] = _of_number(value)
        else:
            found = _of_node(module, value, known)
            known[value] = found if found is None else _as_held(found, tensor_of(value).dtype)
    return known[value]


def _as_held(found: Bounds, dtype: torch.dtype) -> Bounds | None:
    """The bounds of what has these, once it is in this dtype, whether it has been rounded to it or not yet."""
    low, high = found
    if dtype == torch.bool:
        return (1.0, 1.0) if low > 0 or high < 0 else (0.0, float(low < 0 or high > 0))
    if not dtype.is_floating_point:
        whole, limits = (float(math.trunc(low)), float(math.trunc(high))), _of_dtype(dtype)
        # Integers that may leave their dtype's range wrap around.
        return limits if limits is None or whole[0] < limits[0] or limits[1] < whole[1] else whole
    # Rounding keeps the order. What is computed in a wider dtype may also go on unrounded.
    rounded: list[float] = torch.tensor(found, dtype=torch.float64).to(dtype).tolist()
    return (min(low, rounded[0]), max(high, rounded[1])) if all(map(math.isfinite, rounded)) else None


def _of_number(value: float) -> Bounds | None:
    return (float(value), float(value)) if math.isfinite(value) else None


def _of_node(module: GraphModule, node: Any, known: dict[Any, Bounds | None]) -> Bounds | None:
    constant = dequantized_constant(module, node) if isinstance(node, Node) else None
    if constant is not None:
        if constant.is_complex() or constant.numel() == 0:
            return None
        extremes = float(constant.min()), float(constant.max())  # both NaN if any element is
        return extremes if all(map(math.isfinite, extremes)) else None
    if not isinstance(node, Node) or not isinstance(node.meta.get("val"), torch.Tensor):
        return None
    if is_call(node, *_PICKS):
        picked = _bounds(module, source_of(node), known)
        return _of_dtype(tensor_of(node).dtype) if picked is None else picked
    if is_call(node, *_TABLES):
        return _bounds(module, arguments(node)["weight"], known)
    if is_call(node, *_NUMBERS):
        given = arguments(node)
        number = given.get("fill_value", given.get("s"))
        return _bounds(module, number, known) if isinstance(number, (bool, int, float)) else None
    if is_call(node, *_ZEROS):
        return 0.0, 0.0
    if is_call(node, *_ONES):
        return 1.0, 1.0
    if is_call(node, _A.arange.default) and not tensor_of(node).dtype.is_floating_point:
        return 0.0, _FAR
    if is_call(node, *_CHOICES):
        first, second = (_bounds(module, chosen, known) for chosen in node.args[1:])
        return None if first is None or second is None else (min(first[0], second[0]), max(first[1], second[1]))
    dtype = tensor_of(node).dtype
    found = _of_dtype(dtype)
    if not is_call(node, *_SUMS, *_PRODUCTS, *_LESS, *AND, *OR):
        return found
    first, second = (_bounds(module, operand, known) for operand in node.args[:2])
    if is_call(node, *_LESS):
        if first is None or second is None:
            return found
        one: Any
        other: Any
        one, other = (x.meta["val"] if isinstance(x, Node) else x for x in node.args[:2])
        compared = torch.result_type(one, other)
        return _of_comparison(*_LESS[node.target], *(_as_held(x, compared) for x in (first, second)))
    if is_call(node, *AND, *OR):
        return _of_logic(min if is_call(node, *AND) else max, first, second) if dtype == torch.bool else found
    result = _of_arithmetic(node, first, second)
    return found if result is None else result


def _of_arithmetic(node: Node, first: Bounds | None, second: Bounds | None) -> Bounds | None:
    if first is None or second is None:
        return None
    if is_call(node, *_PRODUCTS):
        products = [a * b for a in first for b in second]
        return min(products), max(products)
    if arguments(node)["alpha"] != 1:
        return None
    if is_call(node, _A.sub.Tensor):
        second = (-second[1], -second[0])
    elif is_call(node, _A.rsub.Scalar):
        first = (-first[1], -first[0])
    return first[0] + second[0], first[1] + second[1]


def _of_comparison(swapped: bool, equal: bool, first: Bounds | None, second: Bounds | None) -> Bounds:
    if first is None or second is None:
        return 0.0, 1.0
    low, high = (second, first) if swapped else (first, second)
    surely = low[1] < high[0] or (equal and low[1] == high[0])
    never = low[0] > high[1] or (not equal and low[0] == high[1])
    return float(surely), float(not never)


def _of_logic(combine: Callable[[float, float], float], first: Bounds | None, second: Bounds | None) -> Bounds:
    (low, high), (other_low, other_high) = ((0.0, 1.0) if given is None else given for given in (first, second))
    return combine(bool(low), bool(other_low)), combine(bool(high), bool(other_high))


def _of_dtype(dtype: torch.dtype) -> Bounds | None:
    if dtype.is_floating_point or dtype.is_complex:
        return None
    return (0.0, 1.0) if dtype == torch.bool else (float(torch.iinfo(dtype).min), float(torch.iinfo(dtype).max))
