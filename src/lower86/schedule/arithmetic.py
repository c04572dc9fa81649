"""Arithmetic, comparisons, logic, rounding, powers and choices: `ARITHMETIC` says how each is computed.

Integers wrap. Those that are divided have a number for a divisor: PyTorch fails on a tensor that holds a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.dtypes import DTYPES
from .scalars import ANY, FLOAT32, FLOATS, At, Elementwise, Scalar, When, formula, kind, where
from .symbols import DTYPE_NAMES

_A = torch.ops.aten
Formula = Callable[[At], Scalar]


def _promoted(given: Mapping[str, Any], left: str = "self", right: str = "other") -> str:
    """The dtype in which PyTorch computes on two operands together."""
    first, second = (o.meta["val"] if isinstance(o, Node) else o for o in (given[left], given[right]))
    return DTYPE_NAMES[torch.result_type(first, second)]


# When


def _fits(number: object, dtype: str) -> bool:
    """Whether a number is one of the dtype's; tensors always are."""
    if not isinstance(number, (int, float)) or DTYPES[dtype].kind in ("float", "bool"):
        return True
    bits = 8 * DTYPES[dtype].size
    low, high = (0, 2**bits - 1) if DTYPES[dtype].kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return math.isfinite(number) and low <= number <= high


def _numbers_fit(node: Node) -> bool:
    dtype = DTYPE_NAMES[node.meta["val"].dtype]
    return all(_fits(number, dtype) for name, number in arguments(node).items() if name not in ("exponent", "dim"))


def _compared_numbers_fit(node: Node) -> bool:
    given = arguments(node)
    dtype = _promoted(given)
    return all(_fits(given[name], dtype) for name in ("self", "other"))


def _divides_safely(node: Node) -> bool:
    if kind(node) == "float":
        return True
    divisor = arguments(node)["other"]
    return isinstance(divisor, int) and not isinstance(divisor, bool) and divisor != 0 and _numbers_fit(node)


def _divides_exactly(node: Node) -> bool:
    """As above; of floats, only float32 has the exact remainder that rounding down takes."""
    if node.meta["val"].dtype == torch.float64:
        return arguments(node).get("rounding_mode", "floor") != "floor"
    return _divides_safely(node)


def _has_a_known_power(node: Node) -> bool:
    exponent = arguments(node)["exponent"]
    if not isinstance(exponent, (int, float)):
        return False
    if kind(node) == "float":
        return node.meta["val"].dtype == torch.float32 or exponent in _PLAIN_POWERS
    return isinstance(exponent, int) and 0 <= exponent <= 64


_VALUES = When("", _numbers_fit)
_COMPARED = When("", _compared_numbers_fit)
_NO_BOOL = When("no bool", lambda node: kind(node) != "bool")
_INTEGERS = When("integers", lambda node: kind(node) in ("int", "uint"))
_DIVIDED = When("an integer is divided by a number, not by a tensor", _divides_safely)
_EXACT = When("float32, and integers divided by a number, not by a tensor", _divides_exactly)
_POWER = When("the exponent a number; float64 only to ±½, ±1, ±2, 3; integers up to 64", _has_a_known_power)

# How


def unary(op: str) -> Formula:
    """The body's operation on the only operand."""
    return lambda at: at("self").call(op)


def _binary(op: str) -> Formula:
    def emit(at: At) -> Scalar:
        right, alpha = at("other"), at.number("alpha", 1)
        return at("self").call(op, right if alpha == 1 else right * alpha)

    return emit


def _reversed_sub(at: At) -> Scalar:
    taken, alpha = at("self"), at.number("alpha")
    return at("other") - (taken if alpha == 1 else taken * alpha)


def _compare(op: str) -> Formula:
    def emit(at: At) -> Scalar:
        dtype = _promoted(arguments(at.node))
        return at("self", dtype).call(op, at("other", dtype), dtype="bool")

    return emit


def _logical(op: str) -> Formula:
    return lambda at: at("self", "bool").call(op, at("other", "bool"))


def _where(at: At) -> Scalar:
    return where(at("condition", "bool"), at("self"), at("other"))


def _masked_fill(at: At) -> Scalar:
    return where(at("mask", "bool"), at("value"), at("self"))


def _clamp(at: At) -> Scalar:
    x = at("self")
    for low in ("min", "min_val"):
        x = x.at_least(at(low)) if at.given(low) else x
    for high in ("max", "max_val"):
        x = x.at_most(at(high)) if at.given(high) else x
    return x


def _ignoring_nan(op: str) -> Formula:
    def emit(at: At) -> Scalar:
        a, b = at("self"), at("other")
        return where(a.is_nan(), b, where(b.is_nan(), a, a.call(op, b)))

    return emit


def _sign(at: At) -> Scalar:
    x = at("self")
    return (x > 0).cast(at.dtype) - (x < 0).cast(at.dtype)


def _float_remainder(a: Scalar, b: Scalar) -> Scalar:
    """Has the sign of b: Python's."""
    rest = a.call("fmod", b)
    opposite = rest.differs(0) & (b < 0).differs(rest < 0)
    return where(opposite, rest + b, rest)


def _floored(a: Scalar, b: Scalar) -> Scalar:
    """a / b rounded down, by way of the exact remainder: c10::div_floor_floating."""
    rest = a.call("fmod", b)
    whole = (a - rest) / b
    whole = where(rest.differs(0) & (b < 0).differs(rest < 0), whole - 1, whole)
    floor = whole.call("floor")
    floor = where(whole - floor > 0.5, floor + 1, floor)
    # A quotient of 0 has the sign of a / b.
    return where(b.equals(0), a / b, where(whole.equals(0), a / b * 0, floor))


def _integer_floored(a: Scalar, b: Scalar) -> Scalar:
    whole = a.call("quotient", b)
    rest = a - whole * b
    return where(rest.differs(0) & (b < 0).differs(rest < 0), whole - 1, whole)


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
    a, b = at("self"), at("other")
    return _float_remainder(a, b) if a.is_float else a - _integer_floored(a, b) * b


def _fmod(at: At) -> Scalar:
    a, b = at("self"), at("other")
    return a.call("fmod", b) if a.is_float else a - a.call("quotient", b) * b


_PLAIN_POWERS: Mapping[float, Callable[[Scalar], Scalar]] = {
    1: lambda x: x,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    0.5: lambda x: x.call("sqrt"),
    -0.5: lambda x: 1 / x.call("sqrt"),
    -1: lambda x: 1 / x,
    -2: lambda x: 1 / (x * x),
}
"""The exponents that PyTorch computes in this way, not as a power."""


def _power(at: At) -> Scalar:
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


def _lerp(at: At) -> Scalar:
    start, end, weight = at("self"), at("end"), at("weight")
    span = end - start
    return where(weight < 0.5, start + weight * span, end - span * (1 - weight))


def _nan_to_num(at: At) -> Scalar:
    x, limits = at("self"), torch.finfo(at.node.meta["val"].dtype)
    numbers = {"nan": 0.0, "posinf": limits.max, "neginf": limits.min}
    nan, high, low = (at.number(name) if at.given(name) else default for name, default in numbers.items())
    x = where(x.is_nan(), nan, x)
    return where(x.equals(math.inf), high, where(x.equals(-math.inf), low, x))


def _log_add_exp(at: At) -> Scalar:
    a, b = at("self"), at("other")
    both_infinite = a.equals(b) & abs(a).equals(math.inf)
    return where(both_infinite, a, a.at_least(b) + (-abs(a - b)).call("exp").call("log1p"))


def _x_log_y(at: At) -> Scalar:
    x, y = at("self"), at("other")
    return where(y.is_nan(), y, where(x.equals(0), 0, x * y.call("log")))


def _logit(at: At) -> Scalar:
    x = at("self")
    if at.given("eps"):
        x = x.at_least(at.number("eps")).at_most(1 - at.number("eps"))
    return (x / (1 - x)).call("log")


def _cast(at: At) -> Scalar:
    return at("self")


def _is(test: Callable[[Scalar], Scalar]) -> Formula:
    """A question about a float; of an integer, the answer is that of the same number as a float."""

    def emit(at: At) -> Scalar:
        x = at.own("self")
        return test(x if x.is_float else x.cast("f32"))

    return emit


_TENSOR_OR_SCALAR = ("Tensor", "Scalar")
_BOTH: Mapping[str, tuple[Formula, When]] = {
    "add": (_binary("add"), _VALUES),
    "sub": (_binary("sub"), _VALUES),
    "rsub": (_reversed_sub, _VALUES),
    "mul": (_binary("mul"), _VALUES),
    "div": (_binary("div"), FLOATS),
    "remainder": (_remainder, _EXACT),
    "fmod": (_fmod, _EXACT),
    **{name: (_compare(name), _COMPARED) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: (_binary(op), _VALUES) for name, op in {
        "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "__and__": "and", "__or__": "or", "__xor__": "xor"}.items()},
    "lerp": (_lerp, FLOATS),
    "masked_fill": (_masked_fill, _VALUES),
}  # fmt: skip
"""Operators whose second operand is a tensor or a number, by overload."""

_FLOAT_UNARY = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "erf", "tanh", "sigmoid", "silu", "sin", "cos", "rsqrt",
)  # fmt: skip
"""Operators of one operand that bodies have under the same name, in float32."""

_OTHERS: Mapping[Any, tuple[Formula, When]] = {
    **{getattr(_A, name).default: (unary(name), FLOAT32) for name in _FLOAT_UNARY},
    **{getattr(_A, name).default: (unary(op), ANY) for name, op in {
        "round": "rint", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "neg": "neg", "abs": "abs",
        "bitwise_not": "not"}.items()},
    _A.sqrt.default: (unary("sqrt"), FLOATS),
    _A.reciprocal.default: (lambda at: 1 / at("self"), FLOATS),
    _A.square.default: (lambda at: at("self") * at("self"), ANY),
    _A.frac.default: (lambda at: at("self") - at("self").call("trunc"), FLOATS),
    _A.sign.default: (_sign, _NO_BOOL),
    _A.sgn.default: (_sign, _NO_BOOL),
    _A.tan.default: (lambda at: at("self").call("sin") / at("self").call("cos"), FLOAT32),
    _A.deg2rad.default: (lambda at: at("self") * (math.pi / 180), FLOATS),
    _A.rad2deg.default: (lambda at: at("self") * (180 / math.pi), FLOATS),
    _A.logit.default: (_logit, FLOAT32),
    _A.xlogy.Tensor: (_x_log_y, FLOAT32),
    _A.logaddexp.default: (_log_add_exp, FLOAT32),
    _A.pow.Tensor_Scalar: (_power, _POWER),
    _A.pow.Tensor_Tensor: (lambda at: at("self").call("pow", at("exponent")), FLOAT32),
    _A.pow.Scalar: (lambda at: at("self").call("pow", at("exponent")), FLOAT32),
    _A.true_divide.Tensor: (_binary("div"), FLOATS),
    _A.div.Tensor_mode: (_divide_rounded, _DIVIDED & When("rounded down only in float32", _divides_exactly)),
    _A.div.Scalar_mode: (_divide_rounded, _DIVIDED & When("rounded down only in float32", _divides_exactly)),
    _A.floor_divide.default: (_floor_divide, _EXACT),
    _A.floor_divide.Scalar: (_floor_divide, _EXACT),
    _A.maximum.default: (_binary("max"), _VALUES),
    _A.minimum.default: (_binary("min"), _VALUES),
    _A.fmax.default: (_ignoring_nan("max"), _VALUES),
    _A.fmin.default: (_ignoring_nan("min"), _VALUES),
    _A.bitwise_left_shift.Tensor: (_binary("shl"), _INTEGERS),
    _A.bitwise_left_shift.Tensor_Scalar: (_binary("shl"), _INTEGERS & _VALUES),
    _A.bitwise_right_shift.Tensor: (_binary("shr"), _INTEGERS),
    _A.bitwise_right_shift.Tensor_Scalar: (_binary("shr"), _INTEGERS & _VALUES),
    _A.logical_and.default: (_logical("and"), ANY),
    _A.logical_or.default: (_logical("or"), ANY),
    _A.logical_xor.default: (_logical("xor"), ANY),
    _A.logical_not.default: (lambda at: ~at("self", "bool"), ANY),
    _A.where.self: (_where, _VALUES),
    _A.where.ScalarOther: (_where, _VALUES),
    _A.where.ScalarSelf: (_where, _VALUES),
    _A.where.Scalar: (_where, _VALUES),
    _A._to_copy.default: (_cast, ANY),
    _A.to.dtype: (_cast, ANY),
    _A.clamp.default: (_clamp, _VALUES),
    _A.clamp.Tensor: (_clamp, _VALUES),
    _A.clamp_min.default: (_clamp, _VALUES),
    _A.clamp_min.Tensor: (_clamp, _VALUES),
    _A.clamp_max.default: (_clamp, _VALUES),
    _A.clamp_max.Tensor: (_clamp, _VALUES),
    _A.isnan.default: (_is(Scalar.is_nan), ANY),
    _A.isinf.default: (_is(lambda x: abs(x).equals(math.inf)), ANY),
    _A.isposinf.default: (_is(lambda x: x.equals(math.inf)), ANY),
    _A.isneginf.default: (_is(lambda x: x.equals(-math.inf)), ANY),
    _A.isfinite.default: (_is(lambda x: abs(x) < math.inf), ANY),
    _A.nan_to_num.default: (_nan_to_num, FLOATS),
    _A.addcmul.default: (lambda at: at("self") + at("value") * at("tensor1") * at("tensor2"), _VALUES),
    _A.addcdiv.default: (lambda at: at("self") + at("value") * at("tensor1") / at("tensor2"), FLOATS),
}  # fmt: skip

ARITHMETIC: Mapping[Any, Elementwise] = {
    **{getattr(getattr(_A, name), overload): formula(*how) for name, how in _BOTH.items()
       for overload in _TENSOR_OR_SCALAR},
    **{operator: formula(*how) for operator, how in _OTHERS.items()},
}  # fmt: skip
