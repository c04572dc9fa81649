"""Powers and logarithms of float32 by way of float64: polynomials long enough that only the last rounding is felt.

xʸ = 2 to the power y·log₂x. The error of log₂x comes out of the power multiplied by y·log₂x, which reaches 128, so that
a float32 logarithm is not enough; in float64 it leaves less than a hundredth of a float32 ulp. Both polynomials are
Taylor's on short intervals. Results are those of C (ISO/IEC 9899, F.10.4.4) at zeros, infinities and NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .builder import F64, I64, Code, Type, Value, is_vector, vector

_ROUND = 1.5 * 2.0**52
"""x + this has no room for a fraction, and its low bits are rint(x)."""
_ROOT_HALF = 0x3FE6A09E667F3BCD
"""The bits of √½: exponents are counted from there, so that mantissas lie between √½ and √2."""


def _like(x: Value, element: Type) -> Type:
    return vector(element, x.type.count) if is_vector(x) else element


def _wide(code: Code, x: Value) -> Value:
    return code.b.fpext(x, _like(x, F64))


def _narrow(code: Code, x: Value, like: Value) -> Value:
    return code.b.fptrunc(x, like.type)


def _number(code: Code, like: Value, value: float) -> Value:
    return code.constant(like.type, value)


def _polynomial(code: Code, x: Value, coefficients: list[float]) -> Value:
    """Σ cᵢ·xⁱ by Horner's rule."""
    total = _number(code, x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = code.intrinsic("fma", total, x, _number(code, x, c))
    return total


def _log2(code: Code, x: Value) -> Value:
    """log₂x of a positive, finite float64 that came from a float32, which is never denormal here."""
    bits = code.b.bitcast(x, _like(x, I64))
    e = code.b.ashr(code.b.sub(bits, code.constant(bits.type, _ROOT_HALF)), code.constant(bits.type, 52))
    m = code.b.bitcast(code.b.sub(bits, code.b.shl(e, code.constant(e.type, 52))), x.type)
    # ln m = 2·artanh s with s = (m - 1) / (m + 1), |s| < 0.172; the next term would be below 2⁻⁴⁵ of the first.
    one = _number(code, x, 1.0)
    s = code.b.fdiv(code.b.fsub(m, one), code.b.fadd(m, one))
    series = _polynomial(code, code.b.fmul(s, s), [2 / (2 * k + 1) / math.log(2) for k in range(9)])
    return code.b.fadd(code.b.sitofp(e, x.type), code.b.fmul(s, series))


def _exp2(code: Code, x: Value) -> Value:
    """2ˣ in float64, for any x; beyond ±300, where float32 ends long before, it is that of ±300. NaN gives NaN."""
    for symbol, limit in (("<", 300.0), (">", -300.0)):
        bound = _number(code, x, limit)
        x = code.b.select(code.b.fcmp_ordered(symbol, bound, x), bound, x)
    rounded = code.b.fadd(x, _number(code, x, _ROUND))
    r = code.b.fsub(x, code.b.fsub(rounded, _number(code, x, _ROUND)))
    series = _polynomial(code, r, [math.log(2) ** k / math.factorial(k) for k in range(12)])
    n = code.b.shl(code.b.bitcast(rounded, _like(x, I64)), code.constant(_like(x, I64), 52))
    # Adding to the exponent's bits multiplies by 2ⁿ; a NaN's bits must stay.
    scaled = code.b.bitcast(code.b.add(code.b.bitcast(series, n.type), n), x.type)
    return code.b.select(code.b.fcmp_ordered("ord", x, x), scaled, x)


def exp2(code: Code, x: Value) -> Value:
    """2ˣ within 1 ulp."""
    return _narrow(code, _exp2(code, _wide(code, x)), x)


def _logarithm(scale: float) -> Callable[[Code, Value], Value]:
    def emit(code: Code, x: Value) -> Value:
        wide = _wide(code, x)
        result = code.b.fmul(_log2(code, wide), _number(code, wide, scale))
        return _narrow(code, _log_ends(code, wide, result), x)

    return emit


def _log_ends(code: Code, x: Value, result: Value) -> Value:
    """`result` where a logarithm is finite; Inf for Inf, -Inf for 0, NaN below."""
    zero, infinity = _number(code, x, 0.0), _number(code, x, math.inf)
    result = code.b.select(code.b.fcmp_ordered("==", x, infinity), x, result)
    result = code.b.select(code.b.fcmp_ordered("==", x, zero), code.b.fneg(infinity), result)
    return code.b.select(code.b.fcmp_unordered("<", x, zero), _number(code, x, math.nan), result)


log2 = _logarithm(1.0)
log10 = _logarithm(math.log10(2))


def power(code: Code, x: Value, y: Value) -> Value:
    """xʸ within 1 ulp; for negative x, y must be an integer, and an odd one keeps the sign."""
    base, exponent = _wide(code, x), _wide(code, y)
    zero, one = _number(code, base, 0.0), _number(code, base, 1.0)
    magnitude = code.intrinsic("fabs", base)
    logarithm = _log_ends(code, magnitude, _log2(code, magnitude))
    result = _exp2(code, code.b.fmul(exponent, logarithm))

    whole = code.b.fcmp_ordered("==", code.intrinsic("rint", exponent), exponent)
    half = code.b.fmul(exponent, _number(code, exponent, 0.5))
    odd = code.b.and_(whole, code.b.fcmp_ordered("!=", code.intrinsic("rint", half), half))
    signed = code.intrinsic("copysign", result, base)
    result = code.b.select(odd, signed, result)
    finite = code.b.fcmp_ordered(">", base, _number(code, base, -math.inf))
    rootless = code.b.and_(code.b.and_(code.b.fcmp_ordered("<", base, zero), finite), code.b.not_(whole))
    result = code.b.select(rootless, _number(code, base, math.nan), result)
    # 1 to any power, any x to the power 0, and -1 to an infinite one are 1; the product above made them NaN.
    infinite = code.b.fcmp_ordered("==", code.intrinsic("fabs", exponent), _number(code, base, math.inf))
    ones = code.b.fcmp_ordered("==", base, one)
    ones = code.b.or_(ones, code.b.fcmp_ordered("==", exponent, zero))
    ones = code.b.or_(ones, code.b.and_(infinite, code.b.fcmp_ordered("==", magnitude, one)))
    return _narrow(code, code.b.select(ones, one, result), x)


_DIGITS = 28
"""Bits of a quotient that one step of `remainder` takes off: its products, of 28 and 24 bits, are exact in float64."""


def remainder(code: Code, x: Value, y: Value) -> Value:
    """x - n·y with n = x / y cut to an integer: exact, with the sign of x; NaN for an infinite x or y = 0."""
    wide, divisor = code.intrinsic("fabs", _wide(code, x)), code.intrinsic("fabs", _wide(code, y))
    infinity, zero, one = (_number(code, wide, number) for number in (math.inf, 0.0, 1.0))
    usable = code.b.and_(code.b.fcmp_ordered("<", wide, infinity), code.b.fcmp_ordered(">", divisor, zero))
    divisor = code.b.select(usable, divisor, one)
    left = code.variable(code.b.select(usable, wide, zero))
    limit = _number(code, wide, 2.0**_DIGITS)

    def is_large() -> Value:
        large = code.b.fcmp_ordered(">=", code.b.fdiv(left.get(), divisor), limit)
        return code.reduce("or", large) if is_vector(large) else large

    def step() -> None:
        # y·2ᵏ such that the quotient has at most 28 bits before the point.
        quotient = code.b.fdiv(left.get(), divisor)
        bits = code.b.bitcast(quotient, _like(wide, I64))
        shift = code.constant(bits.type, 52)
        above = code.b.sub(code.b.lshr(bits, shift), code.constant(bits.type, 1023 + _DIGITS - 1))
        none = code.constant(bits.type, 0)
        above = code.b.select(code.b.icmp_signed("<", above, none), none, above)
        scale = code.b.shl(code.b.add(above, code.constant(bits.type, 1023)), shift)
        scaled = code.b.fmul(divisor, code.b.bitcast(scale, wide.type))
        count = code.intrinsic("trunc", code.b.fdiv(left.get(), scaled))
        left.set(code.b.fsub(left.get(), code.b.fmul(count, scaled)))

    code.while_loop(is_large, step)
    step()
    result = _narrow(code, code.intrinsic("copysign", left.get(), _wide(code, x)), x)
    # An infinite y leaves x, and `trunc(x / Inf)·Inf` above is NaN.
    unreached = code.b.fcmp_ordered("==", divisor, infinity)
    result = code.b.select(unreached, x, result)
    return code.b.select(usable, result, _number(code, x, math.nan))


FLOAT32_POWERS: Mapping[str, Callable[..., Value]] = {
    "exp2": exp2,
    "log2": log2,
    "log10": log10,
    "pow": power,
    "fmod": remainder,
}
"""By the name that a body gives them."""
