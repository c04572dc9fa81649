"""Comparisons, logic, and choices between values: `CHOICES` says how each is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.dtypes import computed
from .arithmetic import binary
from .conditions import ANY, FITTING, FLOATS, When, fits
from .scalars import At, Elementwise, Scalar, formula, where
from .symbols import DTYPE_NAMES

_A = torch.ops.aten
Formula = Callable[[At], Scalar]


def _promoted(node: Node) -> str:
    """The dtype in which PyTorch compares the operands."""
    given = arguments(node)
    left, right = (o.meta["val"] if isinstance(o, Node) else o for o in (given["self"], given["other"]))
    return DTYPE_NAMES[torch.result_type(left, right)]


def _compare(op: str) -> Formula:
    def emit(at: At) -> Scalar:
        dtype = _promoted(at.node)
        left, right = at("self", computed(dtype)), at("other", computed(dtype))
        if not isinstance(at.number("other"), Node):
            right = right.rounded(dtype)  # a number meets what it would be as an element
        return left.call(op, right, dtype="bool")

    return emit


def _logical(op: str) -> Formula:
    return lambda at: at("self", "bool").call(op, at("other", "bool"))


def _where(at: At) -> Scalar:
    return where(at("condition", "bool"), at("self"), at("other"))


def _masked_fill(at: At) -> Scalar:
    return where(at("mask", "bool"), at("value"), at("self"))


def _clamp(at: At) -> Scalar:
    x = at("self")
    x = x.at_least(at("min")) if at.given("min") else x
    return x.at_most(at("max")) if at.given("max") else x


def _ignoring_nan(op: str) -> Formula:
    def emit(at: At) -> Scalar:
        a, b = at("self"), at("other")
        return where(a.is_nan(), b, where(b.is_nan(), a, a.call(op, b)))

    return emit


def _nan_to_num(at: At) -> Scalar:
    x, limits = at("self"), torch.finfo(at.node.meta["val"].dtype)
    numbers = {"nan": 0.0, "posinf": limits.max, "neginf": limits.min}
    nan, high, low = (at.number(name) if at.given(name) else default for name, default in numbers.items())
    return where(x.is_nan(), nan, where(x.equals(math.inf), high, where(x.equals(-math.inf), low, x)))


def _is(test: Callable[[Scalar], Scalar]) -> Formula:
    """A question about a float; of an integer, the answer is that of the same number as a float."""

    def emit(at: At) -> Scalar:
        x = at.own("self")
        return test(x if x.is_float else x.cast("f32"))

    return emit


def _compared_numbers_fit(node: Node) -> bool:
    dtype = _promoted(node)
    return all(fits(number, dtype) for number in arguments(node).values())


_COMPARABLE = When("", _compared_numbers_fit)

_FORMULAS: Mapping[Any, tuple[Formula, When]] = {
    **{getattr(getattr(_A, name), overload): (_compare(name), _COMPARABLE)
       for name in ("eq", "ne", "lt", "le", "gt", "ge") for overload in ("Tensor", "Scalar")},
    _A.logical_and.default: (_logical("and"), ANY),
    _A.logical_or.default: (_logical("or"), ANY),
    _A.logical_xor.default: (_logical("xor"), ANY),
    _A.logical_not.default: (lambda at: ~at("self", "bool"), ANY),
    **{getattr(_A.where, overload): (_where, FITTING) for overload in ("self", "ScalarOther", "ScalarSelf", "Scalar")},
    _A.masked_fill.Scalar: (_masked_fill, FITTING), _A.masked_fill.Tensor: (_masked_fill, FITTING),
    _A.clamp.default: (_clamp, FITTING), _A.clamp.Tensor: (_clamp, FITTING),
    _A.clamp_min.default: (_clamp, FITTING), _A.clamp_min.Tensor: (_clamp, FITTING),
    _A.clamp_max.default: (_clamp, FITTING), _A.clamp_max.Tensor: (_clamp, FITTING),
    _A.maximum.default: (binary("max"), FITTING), _A.minimum.default: (binary("min"), FITTING),
    _A.fmax.default: (_ignoring_nan("max"), FITTING), _A.fmin.default: (_ignoring_nan("min"), FITTING),
    _A.isnan.default: (_is(Scalar.is_nan), ANY),
    _A.isinf.default: (_is(lambda x: abs(x).equals(math.inf)), ANY),
    _A.isposinf.default: (_is(lambda x: x.equals(math.inf)), ANY),
    _A.isneginf.default: (_is(lambda x: x.equals(-math.inf)), ANY),
    _A.isfinite.default: (_is(lambda x: abs(x) < math.inf), ANY),
    _A.nan_to_num.default: (_nan_to_num, FLOATS),
}  # fmt: skip
CHOICES: Mapping[Any, Elementwise] = {operator: formula(*how) for operator, how in _FORMULAS.items()}
