"""Division, remainders, shifts and powers: `DIVISION` says how each is computed.

An integer is divided by a number, not by a tensor: PyTorch fails on one that holds a zero, and a program never looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from .arithmetic import binary
from .conditions import FITTING, FLOAT32, FLOATS, When, in_float32, kind, numbers_fit
from .scalars import At, Elementwise, Scalar, formula, where

_A = torch.ops.aten


def _wraps(rest: Scalar, divisor: Scalar) -> Scalar:
    """Whether a remainder has the other sign than its divisor: rounding down goes one further than cutting off."""
    return rest.differs(0) & (divisor < 0).differs(rest < 0)


def _floored(a: Scalar, b: Scalar) -> Scalar:
    """a / b rounded down, by way of the exact remainder: PyTorch's div_floor_floating."""
    rest = a.call("fmod", b)
    whole = (a - rest) / b
    whole = where(_wraps(rest, b), whole - 1, whole)
    floor = whole.call("floor")
    floor = where(whole - floor > 0.5, floor + 1, floor)
    # A quotient of 0 has the sign of a / b.
    return where(b.equals(0), a / b, where(whole.equals(0), a / b * 0, floor))


def _integer_floored(a: Scalar, b: Scalar) -> Scalar:
    whole = a.call("quotient", b)
    return where(_wraps(a - whole * b, b), whole - 1, whole)


def _floor_divide(at: At) -> Scalar:
    a, b = at("self"), at("other")
    return _floored(a, b) if a.is_float else _integer_floored(a, b)


def _divide_rounded(at: At) -> Scalar:
    mode = at.number("rounding_mode")
    if mode == "floor":
        return _floor_divide(at)
    a, b = at("self"), at("other")
    if not a.is_float:
        return a.call("quotient", b)
    return (a / b).call("trunc") if mode == "trunc" else a / b


def _remainder(at: At) -> Scalar:
    """Has the sign of the divisor, as in Python."""
    a, b = at("self"), at("other")
    rest = a.call("fmod", b) if a.is_float else a - a.call("quotient", b) * b
    return where(_wraps(rest, b), rest + b, rest)


def _fmod(at: At) -> Scalar:
    """Has the sign of the dividend, as in C."""
    a, b = at("self"), at("other")
    return a.call("fmod", b) if a.is_float else a - a.call("quotient", b) * b


_PLAIN_POWERS: Mapping[float, Callable[[Scalar], Scalar]] = {
    0: lambda x: x.like(1),
    1: lambda x: x,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    0.5: lambda x: x.call("sqrt"),
    -0.5: lambda x: 1 / x.call("sqrt"),
    -1: lambda x: 1 / x,
    -2: lambda x: 1 / (x * x),
}
"""The exponents that PyTorch computes in this way, not as a power."""


def _power_of_number(at: At) -> Scalar:
    x, exponent = at("self"), at.number("exponent")
    if exponent in _PLAIN_POWERS:
        return _PLAIN_POWERS[exponent](x)
    if x.is_float:
        return x.call("pow", at("exponent"))
    result, square = at.const(1), x
    while exponent:
        result = result * square if exponent % 2 else result
        square, exponent = square * square, exponent // 2
    return result


def _power(at: At) -> Scalar:
    return at("self").call("pow", at("exponent"))


def _divides_by_number(node: Node) -> bool:
    divisor = arguments(node)["other"]
    return isinstance(divisor, int) and not isinstance(divisor, bool) and divisor != 0 and numbers_fit(node)


def _divides(node: Node) -> bool:
    """Rounding down takes the exact remainder, which only float32 has."""
    if kind(node) != "float":
        return _divides_by_number(node)
    return in_float32(node) or arguments(node).get("rounding_mode", "floor") != "floor"


def _has_known_power(node: Node) -> bool:
    exponent = arguments(node)["exponent"]
    if not isinstance(exponent, (int, float)):
        return False
    if kind(node) == "float":
        return in_float32(node) or exponent in _PLAIN_POWERS
    return isinstance(exponent, int) and 0 <= exponent <= 64


_INTEGERS = When("integers", lambda node: kind(node) in ("int", "uint"))
_EXACT = When("float32; integers by a number, not by a tensor", _divides)
_ROUNDED = When("float32, float64 not rounded down; integers by a number, not by a tensor", _divides)
_POWER = When("float32; float64 to ±½, ±1, ±2, 3; integers up to the power of 64", _has_known_power)

_FORMULAS: Mapping[Any, tuple[Callable[[At], Scalar], When]] = {
    _A.div.Tensor: (binary("div"), FLOATS), _A.div.Scalar: (binary("div"), FLOATS),
    _A.true_divide.Tensor: (binary("div"), FLOATS),
    _A.div.Tensor_mode: (_divide_rounded, _ROUNDED), _A.div.Scalar_mode: (_divide_rounded, _ROUNDED),
    _A.floor_divide.default: (_floor_divide, _EXACT), _A.floor_divide.Scalar: (_floor_divide, _EXACT),
    _A.remainder.Tensor: (_remainder, _EXACT), _A.remainder.Scalar: (_remainder, _EXACT),
    _A.fmod.Tensor: (_fmod, _EXACT), _A.fmod.Scalar: (_fmod, _EXACT),
    _A.pow.Tensor_Scalar: (_power_of_number, _POWER),
    _A.pow.Tensor_Tensor: (_power, FLOAT32), _A.pow.Scalar: (_power, FLOAT32),
    **{getattr(getattr(_A, name), overload): (binary(op), _INTEGERS & FITTING)
       for name, op in {"bitwise_left_shift": "shl", "bitwise_right_shift": "shr"}.items()
       for overload in ("Tensor", "Tensor_Scalar")},
    **{getattr(getattr(_A, name), overload): (binary(op), _INTEGERS & FITTING)
       for name, op in {"__lshift__": "shl", "__rshift__": "shr"}.items() for overload in ("Tensor", "Scalar")},
}  # fmt: skip
DIVISION: Mapping[Any, Elementwise] = {operator: formula(*how) for operator, how in _FORMULAS.items()}
