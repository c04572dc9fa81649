"""Inverse circular functions and hyperbolic ones, from the few functions that bodies have: `TRIGONOMETRY`.

The inverse circular ones go by way of float64, where the series of the arc tangent is short once its argument is below
tan(π/8), and where nothing cancels that float32 could see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .conditions import FLOAT32
from .scalars import At, Elementwise, Scalar, formula, where

_A = torch.ops.aten
_TERMS = 14
"""tan(π/8) to the power 2·14, over 29, is below 2⁻³⁷ of the first term."""


def _signed_as(magnitude: Scalar, x: Scalar) -> Scalar:
    """`magnitude`, negated where x is below zero, and x itself where x is a zero, of either sign, or NaN."""
    return where(x > 0, magnitude, where(x < 0, -magnitude, x))


def _arc_tangent(a: Scalar) -> Scalar:
    """Of a float64 from 0 to Inf."""
    # atan a = π/4 + atan((a - 1) / (a + 1)), and π/2 - atan(1 / a).
    large, middle = a > 1 + math.sqrt(2), a > math.sqrt(2) - 1
    start = where(large, math.pi / 2, where(middle, a.like(math.pi / 4), 0.0))
    t = where(large, -1 / a, where(middle, (a - 1) / (a + 1), a))
    square = t * t
    series = square.like((-1) ** (_TERMS - 1) / (2 * _TERMS - 1))
    for k in reversed(range(_TERMS - 1)):
        series = series * square + (-1) ** k / (2 * k + 1)
    return start + t * series


def _atan(at: At) -> Scalar:
    x = at("self")
    return _signed_as(_arc_tangent(abs(x).cast("f64")).cast("f32"), x)


def _asin(at: At) -> Scalar:
    x = at("self")
    a = abs(x).cast("f64")
    return _signed_as(_arc_tangent(a / ((1 - a) * (1 + a)).call("sqrt")).cast("f32"), x)


def _acos(at: At) -> Scalar:
    x = at("self").cast("f64")
    return _arc_tangent(((1 - x) / (1 + x)).call("sqrt")) * 2


def _is_negative(x: Scalar) -> Scalar:
    """Whether the sign bit is set, on a zero too."""
    return (x < 0) | (x.equals(0) & (1 / x < 0))


def _atan2(at: At) -> Scalar:
    y, x = at("self"), at("other")
    rise, run = abs(y).cast("f64"), abs(x).cast("f64")
    # A slope of 0 / 0 is 0, one of Inf / Inf is 1.
    slope = where(rise.equals(run), where(rise.equals(0), rise, 1.0), rise / run)
    angle = _arc_tangent(slope)
    angle = where(_is_negative(x), math.pi - angle, angle).cast("f32")
    angle = where(_is_negative(y), -angle, angle)
    return where(x.is_nan(), x, where(y.is_nan(), y, angle))


_LARGE = 80.0
"""Where eˣ is still finite, and 1 in beside it is nothing."""


def _halved_power(a: Scalar) -> Scalar:
    """eᵃ / 2, for large a, where eᵃ itself may overflow."""
    root = (a * 0.5).call("exp")
    return root * 0.5 * root


def _sinh(at: At) -> Scalar:
    x = at("self")
    a = abs(x)
    power = a.call("expm1")
    return _signed_as(where(a > _LARGE, _halved_power(a), (power + power / (power + 1)) * 0.5), x)


def _cosh(at: At) -> Scalar:
    a = abs(at("self"))
    power = a.call("exp")
    return where(a > _LARGE, _halved_power(a), (power + 1 / power) * 0.5)


def _log_twice(a: Scalar) -> Scalar:
    """ln(2·a), of which the inverse hyperbolic functions differ by nothing for large a."""
    return a.call("log") + math.log(2)


def _asinh(at: At) -> Scalar:
    x = at("self")
    a = abs(x)
    square = a * a
    near = (a + square / ((square + 1).call("sqrt") + 1)).call("log1p")
    return _signed_as(where(a > 1e9, _log_twice(a), near), x)


def _acosh(at: At) -> Scalar:
    x = at("self")
    above = x - 1
    near = (above + (above * (above + 2)).call("sqrt")).call("log1p")
    return where(x < 1, math.nan, where(x > 1e9, _log_twice(x), near))


def _atanh(at: At) -> Scalar:
    x = at("self")
    a = abs(x)
    return _signed_as((a * 2 / (1 - a)).call("log1p") * 0.5, x)


_FORMULAS: Mapping[Any, Callable[[At], Scalar]] = {
    _A.atan.default: _atan, _A.asin.default: _asin, _A.acos.default: _acos, _A.atan2.default: _atan2,
    _A.sinh.default: _sinh, _A.cosh.default: _cosh,
    _A.asinh.default: _asinh, _A.acosh.default: _acosh, _A.atanh.default: _atanh,
    _A.tan.default: lambda at: at("self").call("sin") / at("self").call("cos"),
}  # fmt: skip
TRIGONOMETRY: Mapping[Any, Elementwise] = {operator: formula(how, FLOAT32) for operator, how in _FORMULAS.items()}
