"""Arithmetic and functions of numbers: `ARITHMETIC` says how each is computed. Integers wrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from .conditions import ANY, FITTING, FLOAT32, FLOATS, When, kind
from .scalars import At, Elementwise, Scalar, formula, where

_A = torch.ops.aten
Formula = Callable[[At], Scalar]


def _unary(op: str) -> Formula:
    """The body's operation on the only operand."""
    return lambda at: at("self").call(op)


def binary(op: str) -> Formula:
    """The body's operation on both operands, the second times `alpha` where there is one."""

    def emit(at: At) -> Scalar:
        left, right = at("self"), at("other")
        if at.number("alpha", 1) == 1:
            return left.call(op, right)
        if op == "add" and left.is_float:
            # As PyTorch's vector code does. A number that the step gives, so that residuals share code.
            number = at.number("alpha")
            return right.call("fma", at("alpha") if isinstance(number, Node) else at.param(number), left)
        return left.call(op, right * at("alpha"))

    return emit


def _reversed_sub(at: At) -> Scalar:
    return at("other") - (at("self") if at.number("alpha") == 1 else at("self") * at("alpha"))


def _sign(at: At) -> Scalar:
    x = at("self")
    return (x > 0).cast(at.dtype) - (x < 0).cast(at.dtype)


def _lerp(at: At) -> Scalar:
    start, end, weight = at("self"), at("end"), at("weight")
    span = end - start
    return where(abs(weight) < 0.5, start + weight * span, end - span * (1 - weight))


def _log_add_exp(at: At) -> Scalar:
    a, b = at("self"), at("other")
    both_infinite = a.equals(b) & abs(a).equals(math.inf)
    return where(both_infinite, a, a.at_least(b) + (-abs(a - b)).call("exp").call("log1p"))


def _x_log_y(at: At) -> Scalar:
    x, y = at("self"), at("other")
    return where(y.is_nan(), y, where(x.equals(0), 0, x * y.call("log")))


def _hypotenuse(at: At) -> Scalar:
    """In float64, where no square overflows."""
    x, y = at("self", "f64"), at("other", "f64")
    infinite = abs(x).equals(math.inf) | abs(y).equals(math.inf)
    return where(infinite, math.inf, (x * x + y * y).call("sqrt"))


def _heaviside(at: At) -> Scalar:
    x = at("self")
    return where(x.equals(0), at("values"), (x > 0).cast(at.dtype))


def _logit(at: At) -> Scalar:
    x = at("self")
    if at.given("eps"):
        x = x.at_least(at.number("eps")).at_most(1 - at.number("eps"))
    return (x / (1 - x)).call("log")


def _cast(at: At) -> Scalar:
    """Casts to a narrow float round, whether or not the result is stored: who writes one may want the difference."""
    source = at.number("self")
    is_cast = source.meta["val"].dtype != at.node.meta["val"].dtype
    return at("self").rounded(at.stored) if is_cast else at("self")


_NO_BOOL = When("", lambda node: kind(node) != "bool")
_FUNCTIONS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "erf", "tanh", "sigmoid", "silu", "sin", "cos", "rsqrt",
)  # fmt: skip
"""Operators of one operand that bodies have under the same name, in float32."""

_FORMULAS: Mapping[Any, tuple[Formula, When]] = {
    **{getattr(_A, name).default: (_unary(name), FLOAT32) for name in _FUNCTIONS},
    **{getattr(_A, name).default: (_unary(op), ANY) for name, op in {
        "round": "rint", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "neg": "neg", "abs": "abs",
        "bitwise_not": "not"}.items()},
    _A.sqrt.default: (_unary("sqrt"), FLOATS),
    _A.reciprocal.default: (lambda at: 1 / at("self"), FLOATS),
    _A.square.default: (lambda at: at("self") * at("self"), ANY),
    _A.frac.default: (lambda at: at("self") - at("self").call("trunc"), FLOATS),
    _A.sign.default: (_sign, _NO_BOOL),
    _A.sgn.default: (_sign, _NO_BOOL),
    _A.deg2rad.default: (lambda at: at("self") * (math.pi / 180), FLOATS),
    _A.rad2deg.default: (lambda at: at("self") * (180 / math.pi), FLOATS),
    _A.logit.default: (_logit, FLOAT32),
    _A.hypot.default: (_hypotenuse, FLOAT32),
    _A.heaviside.default: (_heaviside, ANY),
    _A.xlogy.Tensor: (_x_log_y, FLOAT32),
    _A.logaddexp.default: (_log_add_exp, FLOAT32),
    _A.add.Tensor: (binary("add"), FITTING), _A.add.Scalar: (binary("add"), FITTING),
    _A.sub.Tensor: (binary("sub"), FITTING), _A.sub.Scalar: (binary("sub"), FITTING),
    _A.rsub.Tensor: (_reversed_sub, FITTING), _A.rsub.Scalar: (_reversed_sub, FITTING),
    _A.mul.Tensor: (binary("mul"), FITTING), _A.mul.Scalar: (binary("mul"), FITTING),
    _A.addcmul.default: (lambda at: at("self") + at("value") * at("tensor1") * at("tensor2"), FITTING),
    _A.addcdiv.default: (lambda at: at("self") + at("value") * at("tensor1") / at("tensor2"), FLOATS),
    _A.lerp.Tensor: (_lerp, FLOATS), _A.lerp.Scalar: (_lerp, FLOATS),
    **{getattr(getattr(_A, name), overload): (binary(op), FITTING) for name, op in {
        "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "__and__": "and", "__or__": "or", "__xor__": "xor"}.items() for overload in ("Tensor", "Scalar")},
    _A._to_copy.default: (_cast, ANY),
    _A.clone.default: (lambda at: at("self"), ANY),
    _A.to.dtype: (_cast, ANY), _A.to.dtype_layout: (_cast, ANY),
}  # fmt: skip
ARITHMETIC: Mapping[Any, Elementwise] = {operator: formula(*how) for operator, how in _FORMULAS.items()}
