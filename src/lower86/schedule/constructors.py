"""Tensors out of nothing but their indices: constants, ranges, identity and triangles.

Those of fixed shape are computed once, when lowering; what is left here depends on sizes that are known at the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from .conditions import ANY, When
from .scalars import At, Elementwise, Scalar, formula, where

_A = torch.ops.aten


def _is_size(number: object) -> bool:
    """Whether it is an integer, fixed or known at the call."""
    if isinstance(number, Node):
        number = number.meta.get("val")
    return isinstance(number, (int, torch.SymInt)) and not isinstance(number, bool)


def _fill_is_a_number(node: Node) -> bool:
    given = arguments(node)
    value = given.get("fill_value", given.get("s", given.get("value", 0)))
    return isinstance(value, (int, float, bool)) or _is_size(value)


def _has_whole_steps(node: Node) -> bool:
    given = arguments(node)
    return all(_is_size(given.get(name, 0)) for name in ("start", "end", "step"))


_NUMBER = When("of a number", _fill_is_a_number)
_WHOLE = When("of integers", _has_whole_steps)


def _full(at: At) -> Scalar:
    (name,) = (name for name in ("fill_value", "s", "value") if at.number(name) is not None)
    return at(name)


def _ones(at: At) -> Scalar:
    return at.const(1)


def _zeros(at: At) -> Scalar:
    """Also what `empty` gives: anything will do."""
    return at.const(0)


def _arange(at: At) -> Scalar:
    index = at.index(0)
    for name, neutral, op in (("step", 1, "mul"), ("start", 0, "add")):
        if at.number(name, neutral) != neutral:
            index = index.call(op, at(name, "i64"))
    return index


def _eye(at: At) -> Scalar:
    return at.index(0).equals(at.index(1))


def _triangle(keeps: Callable[[Scalar, Scalar], Scalar]) -> Callable[[At], Scalar]:
    def emit(at: At) -> Scalar:
        return where(keeps(at.index(-1), at.index(-2) + at("diagonal", "i64")), at("self"), 0)

    return emit


_FORMULAS: Mapping[Any, tuple[Callable[[At], Scalar], When]] = {
    _A.full.default: (_full, _NUMBER),
    _A.full_like.default: (_full, _NUMBER),
    _A.new_full.default: (_full, _NUMBER),
    _A.scalar_tensor.default: (_full, _NUMBER),
    _A.fill.Scalar: (_full, _NUMBER),
    _A.fill.Tensor: (_full, ANY),
    **{getattr(_A, name).default: (_ones, ANY) for name in ("ones", "ones_like", "new_ones")},
    **{getattr(_A, name).default: (_zeros, ANY) for name in ("zeros", "zeros_like", "new_zeros", "zero")},
    _A.empty.memory_format: (_zeros, ANY),
    _A.empty_like.default: (_zeros, ANY),
    _A.new_empty.default: (_zeros, ANY),
    _A.arange.default: (_arange, _WHOLE),
    _A.arange.start: (_arange, _WHOLE),
    _A.arange.start_step: (_arange, _WHOLE),
    _A.eye.default: (_eye, ANY),
    _A.eye.m: (_eye, ANY),
    _A.tril.default: (_triangle(lambda column, diagonal: column <= diagonal), ANY),
    _A.triu.default: (_triangle(lambda column, diagonal: column >= diagonal), ANY),
}
CONSTRUCTORS: Mapping[Any, Elementwise] = {operator: formula(*how) for operator, how in _FORMULAS.items()}
