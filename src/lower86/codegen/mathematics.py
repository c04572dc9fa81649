"""Elementary functions of float32, on vectors and on scalars alike: polynomials of our own, without branches.

A function is a short sequence of operations that IEEE 754 rounds in one way only (add, multiply, divide, square root,
fma, conversions, selects, integer arithmetic), so that a scalar, a vector and every CPU give the same bits. Nothing is
approximated by the CPU and nothing is reordered. The bounds are in ulp of the true result over all inputs, denormals
kept, as tests/codegen/test_mathematics.py measures them. NaN gives NaN.

Three devices recur. *Rounding by addition*: x + 1.5·2²³ has no room for a fraction, so that its low bits are rint(x) as
an integer (1.5·2²² has room for halves: rint(2x)). *Powers of two*: with the exponent's bias added as well, those bits
moved up by 23 are 2 to that power. *A minimum that keeps NaN*: `select(limit < x, limit, x)`, which is one min
instruction; LLVM's `minnum` would give the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .builder import F64, I32, I64, Code, Type, Value, is_vector, vector

# Printed by tools/fit_polynomials.py; the errors are what the fit leaves, relative to the result, in units of 2^-24.

# exp(r) = 1 + r + r²·p(r) for |r| <= ln2; error 0.2
_EXP = (0.50000036, 0.16666618, 0.04166123, 0.00833593, 0.0014104752, 0.0001963056)
# exp(r) = 1 + r + r²·p(r) for |r| <= ln2/2; error 2
_WEIGHT = (0.4999923, 0.16667113, 0.041890185, 0.008312679)
# 1 - 4⁻ᶠ = f + f·p(f) for |f| <= 1/4; error 0.2
_ONE_MINUS_POWER = (0.38629436, -0.96090597, 0.4440294, -0.15389298, 0.042839617, -0.009844635)
# erf(y) = 1 - 4⁻ᶻ with z = y + y·p(y), for 0 <= y <= 3.95; erf rounds to 1 from 3.92 on; error 1
_ERF = (-0.18604648, 0.45922315, 0.07415037, -0.0138841085, 5.9198817e-05, 0.0009755296, -0.00030282754, 3.3433927e-05)
# Φ(c) = 4⁻ʷ with w = 1/2 + c·p(c), for -5.6 <= c <= 0, relative to 1/2; beyond, w goes on to grow; error 0.3
_TAIL = (-0.5755526, 0.22960426, -0.02624763, -0.0035310844, -6.8017776e-05, 9.326441e-05, 1.9722791e-05, 1.4200415e-06)
# log(1 + f) = f + f²·p(f) for |f| <= 1/3; error 0.4
_LOG = (-0.49999937, 0.333332, -0.25007746, 0.2001108, -0.16417098, 0.13997005, -0.15383218, 0.14021274)
# sin(r) = r + r·q·p(q) with q = r², for |r| <= π/4; error 0.07
_SIN = (-0.16666655, 0.008332189, -0.00019518286)
# cos(r) = 1 + q·p(q) with q = r², for |r| <= π/4; error 0.002
_COS = (-0.5, 0.041666646, -0.001388731, 2.4432327e-05)
# -x·Φ(-x) for x = (k + t)/2.87 up to 5.4, |t| <= 1/2: cᵢ of every k; error 4
_GELU_BUMP = (
    (1.6276743e-09, -0.1267449, -0.1692989, -0.15464433, -0.11386739, -0.07097597,
     -0.03822086, -0.017959721, -0.007403983, -0.002686426, -0.0008595614, -0.00024283845,
     -6.0626175e-05, -1.338303e-05, -2.6132186e-06, -4.514931e-07),
    (-0.17421618, -0.08116572, -0.008667229, 0.03259055, 0.044883486, 0.038899865,
     0.026307466, 0.014751724, 0.0070366166, 0.002893049, 0.001033068, 0.00032193487,
     8.7835026e-05, 2.102838e-05, 4.4247963e-06, 8.193448e-07),
    (0.048435796, 0.042813588, 0.028767513, 0.012724816, 0.000527876, -0.0054956893,
     -0.0064553125, -0.004884583, -0.0028713704, -0.0013890552, -0.00056741195, -0.00019845151,
     -5.9929396e-05, -1.571268e-05, -3.5904488e-06, -7.16996e-07),
    (-1.1015929e-05, -0.0035482647, -0.00536587, -0.0049267733, -0.0030526146, -0.0010490278,
     0.00023131576, 0.0006748527, 0.0006051626, 0.00037752299, 0.0001856967, 7.537681e-05,
     2.5817635e-05, 7.557582e-06, 1.9061375e-06, 4.1645023e-07),
    (-0.0009613591, -0.0007250117, -0.00016184259, 0.00034308396, 0.00053586013, 0.00042983005,
     0.00020720105, 2.9745393e-05, -4.918989e-05, -5.680814e-05, -3.762548e-05, -1.863245e-05,
     -7.4266654e-06, -2.460798e-06, -6.8978574e-07, -1.6556093e-07),
)  # fmt: skip
# -x·(1 - tanh(√(2/π)·(x + 0.044715·x³)))/2 for x = (k + t)/2.87 up to 5.4, |t| <= 1/2: cᵢ of every k; error 4
_GELU_TANH_BUMP = (
    (1.664459e-09, -0.12674935, -0.16935341, -0.15481274, -0.11410034, -0.07108227,
     -0.038044583, -0.017543813, -0.006936742, -0.002328799, -0.0006552512, -0.00015222655,
     -2.8734448e-05, -4.3340997e-06, -5.135441e-07, -4.698371e-08),
    (-0.17421618, -0.08118281, -0.008756037, 0.03247248, 0.044900727, 0.039129734,
     0.026604911, 0.014907036, 0.0069904965, 0.0027419452, 0.0008918805, 0.00023751534,
     5.101716e-05, 8.697707e-06, 1.1574921e-06, 1.1821069e-07),
    (0.048435807, 0.042790275, 0.028728498, 0.012747336, 0.0006324314, -0.0054094754,
     -0.0064798715, -0.004987336, -0.0029557317, -0.0014088219, -0.00054437405, -0.00016958553,
     -4.2112715e-05, -8.220839e-06, -1.2424529e-06, -1.4305462e-07),
    (-1.1132048e-05, -0.0035596262, -0.005359359, -0.0048963088, -0.0030377617, -0.0010755123,
     0.00019344641, 0.00066509953, 0.00062315026, 0.00039769497, 0.00019322833, 7.329723e-05,
     2.1733573e-05, 4.9994183e-06, 8.82161e-07, 1.1781468e-07),
    (-0.00096592156, -0.00072457193, -0.00015450307, 0.0003456222, 0.00052672613, 0.0004213876,
     0.00021048312, 3.8579e-05, -4.52945e-05, -5.90085e-05, -4.0915806e-05, -1.9995696e-05,
     -7.2782846e-06, -1.9961985e-06, -4.116319e-07, -6.341403e-08),
)  # fmt: skip
# each a number and what it lacks of the exact one
_LN2 = (0.6931472, -1.9046542e-09)
_LOG2_E = (1.442695, 1.925963e-08)
_LOG4_E = (0.7213475, 9.629815e-09)
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
_TWO_OVER_PI = 0.6366197723675814

_ROUND, _ROUND_HALVES, _ROUND64 = 1.5 * 2**23, 1.5 * 2**22, 1.5 * 2**52
_BIAS = 127
_BUMP_END, _BUMP_STEPS = 5.4, 2.87  # how many pieces of it make 1
_TAIL_END = 9.955  # where w of the normal tail is 63.5: 4⁻ʷ is below all normal numbers
_INF, _NAN = float("inf"), float("nan")


def _number(code: Code, like: Value, value: float) -> Value:
    return code.constant(like.type, value)


def _fma(code: Code, a: Value, b: Value | float, c: Value | float) -> Value:
    """a·b + c, rounded once."""
    return code.intrinsic("fma", a, *(_number(code, a, v) if isinstance(v, float) else v for v in (b, c)))


def _polynomial(code: Code, x: Value, coefficients: Sequence[float]) -> Value:
    """Σ cᵢ·xⁱ, two terms or more: pairs, pairs of pairs, and so on (Estrin's scheme), in half of Horner's time."""
    parts: list[Value | float] = list(coefficients)
    power = x
    while len(parts) > 1:
        pairs = [_fma(code, power, high, low) for low, high in zip(parts[::2], parts[1::2], strict=False)]
        parts = [*pairs, *parts[len(pairs) * 2 :]]
        power = code.b.fmul(power, power)
    return parts[0]


def _at_most(code: Code, x: Value, limit: float) -> Value:
    bound = _number(code, x, limit)
    return code.b.select(code.b.fcmp_ordered("<", bound, x), bound, x)


def _at_least(code: Code, x: Value, limit: float) -> Value:
    bound = _number(code, x, limit)
    return code.b.select(code.b.fcmp_ordered(">", bound, x), bound, x)


def _like(x: Value, element: Type) -> Type:
    return vector(element, x.type.count) if is_vector(x) else element


def _bits(code: Code, x: Value) -> Value:
    return code.b.bitcast(x, _like(x, I32))


def _float(code: Code, bits: Value, x: Value) -> Value:
    """`bits` as a float of the type of x."""
    return code.b.bitcast(bits, x.type)


def _up(code: Code, bits: Value, by: int) -> Value:
    return code.b.shl(bits, code.constant(bits.type, by))


def _power_of_two(code: Code, rounded: Value) -> Value:
    """2ⁿ, where the low bits of the float `rounded` are n + 127."""
    return _float(code, _up(code, _bits(code, rounded), 23), rounded)


def _signed_as(code: Code, magnitude: Value, x: Value) -> Value:
    return code.intrinsic("copysign", magnitude, x)


def _exp_of_rest(code: Code, r: Value, coefficients: Sequence[float]) -> Value:
    """1 + (r + r²·p(r)), the largest term last, whose rounding then is the only one that counts."""
    small = _fma(code, code.b.fmul(r, r), _polynomial(code, r, coefficients), r)
    return code.b.fadd(small, _number(code, r, 1.0))


def _exp(code: Code, x: Value) -> Value:
    """eˣ for -104 <= x <= 89."""
    # eˣ = eʳ·2ⁿ·2ⁿ with n = rint(x / ln4), |r| <= ln2. One power does not reach from the denormals to the largest
    # numbers; two halves do, and of the products only the last may round. The wider r costs one term.
    rounded = _fma(code, x, _LOG4_E[0], _ROUND + _BIAS)
    n = code.b.fsub(rounded, _number(code, x, _ROUND + _BIAS))
    r = _fma(code, n, -2 * _LN2[1], _fma(code, n, -2 * _LN2[0], x))
    power = _power_of_two(code, rounded)
    return code.b.fmul(code.b.fmul(_exp_of_rest(code, r, _EXP), power), power)


def exp(code: Code, x: Value) -> Value:
    """eˣ within 2 ulp: Inf above 88.72, denormal below -87.33, 0 below -103.97."""
    return _exp(code, _at_least(code, _at_most(code, x, 89.0), -104.0))


def softmax_weight(code: Code, x: Value) -> Value:
    """eˣ for x <= 0 within 3 ulp down to x = -20, 6 to -87; 0 from -88 on, which no softmax could tell from it."""
    # One power is enough without the denormals: 2⁻¹²⁷, whose bits are those of 0, ends the range. n·ln2 in one step is
    # off by |n|·2⁻²⁹, which is less than the sum of the weights, at least 1, can hold.
    bounded = _at_least(code, x, -88.0)
    rounded = _fma(code, bounded, _LOG2_E[0], _ROUND + _BIAS)
    n = code.b.fsub(rounded, _number(code, x, _ROUND + _BIAS))
    r = _fma(code, n, -_LN2[0], bounded)
    return code.b.fmul(_exp_of_rest(code, r, _WEIGHT), _power_of_two(code, rounded))


def _one_minus_power_near_0(code: Code, f: Value) -> Value:
    """1 - 4⁻ᶠ for |f| <= 1/4, accurate relative to itself."""
    return _fma(code, f, _polynomial(code, f, _ONE_MINUS_POWER), f)


def _one_minus_power(code: Code, z: Value) -> Value:
    """1 - 4⁻ᶻ for 0 <= z <= 60, accurate relative to itself."""
    # With z = f - n/2 this is (1 - 2ⁿ) + 2ⁿ·(1 - 4⁻ᶠ), where 1 - 2ⁿ is exact or too close to 1 to matter. In base 4, f
    # is exact and takes additions only, for which CPUs have other units than for fma; and the polynomial begins with f.
    rounded = code.b.fsub(_number(code, z, _ROUND_HALVES + _BIAS / 2), z)
    f = code.b.fsub(z, code.b.fsub(_number(code, z, _ROUND_HALVES + _BIAS / 2), rounded))
    power = _power_of_two(code, rounded)
    return _fma(code, power, _one_minus_power_near_0(code, f), code.b.fsub(_number(code, z, 1.0), power))


def expm1(code: Code, x: Value) -> Value:
    """eˣ - 1 within 3 ulp, near 0 too; expm1(±0) = ±0."""
    # As `_one_minus_power`, but z = -x / ln4 takes two steps to be accurate, and 2ⁿ⁻¹ stands for 2ⁿ, as 2¹²⁸ is no
    # number: the doubling at the end overflows where the result does.
    bounded = _at_least(code, _at_most(code, x, 89.0), -40.0)
    rounded = _fma(code, bounded, _LOG4_E[0], _ROUND_HALVES + (_BIAS - 1) / 2)
    n = code.b.fsub(rounded, _number(code, x, _ROUND_HALVES + (_BIAS - 1) / 2))
    f = _fma(code, bounded, -_LOG4_E[1], _fma(code, bounded, -_LOG4_E[0], n))
    half = _power_of_two(code, rounded)
    total = _fma(code, half, _one_minus_power_near_0(code, f), code.b.fsub(_number(code, x, 0.5), half))
    return _signed_as(code, code.b.fadd(total, total), x)


def erf(code: Code, x: Value) -> Value:
    """The error function within 2 ulp, near 0 too; erf(±0) = ±0, ±1 from |x| = 3.92 on."""
    # erf(y) = 1 - 4⁻ᶻ with z = -log₄(erfc y): one smooth function from 0 to where erf rounds to 1, and no division.
    y = _at_most(code, code.intrinsic("fabs", x), 3.95)
    z = _fma(code, y, _polynomial(code, y, _ERF), y)
    return _signed_as(code, _one_minus_power(code, z), x)


def tanh(code: Code, x: Value) -> Value:
    """The hyperbolic tangent within 4 ulp, near 0 too; tanh(±0) = ±0, ±1 from |x| = 9.02 on."""
    # (1 - e⁻²ʸ) / (1 + e⁻²ʸ) = w / (2 - w) with w = 1 - e⁻²ʸ, and e⁻²ʸ is 4 to the power -y·log₂e.
    y = _at_most(code, code.intrinsic("fabs", x), 20.0)
    w = _one_minus_power(code, _fma(code, y, _LOG2_E[0] - 1.0, y))
    return _signed_as(code, code.b.fdiv(w, code.b.fsub(_number(code, x, 2.0), w)), x)


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + e⁻ˣ) within 4 ulp; for negative x it is eˣ / (1 + eˣ), which goes on where e⁻ˣ overflows."""
    one = _number(code, x, 1.0)
    power = _exp(code, _at_least(code, code.b.fneg(code.intrinsic("fabs", x)), -104.0))
    top = code.b.select(code.b.fcmp_ordered("<", x, _number(code, x, 0.0)), power, one)
    return code.b.fdiv(top, code.b.fadd(power, one))


def _log_scale(code: Code, x: Value) -> tuple[Value, Value]:
    """e such that x·2⁻ᵉ is in [2/3, 4/3), for normal x > 0: as an integer, and where a float's bits have it."""
    above = code.b.sub(_bits(code, x), code.constant(_like(x, I32), 0x3F2AAAAB))  # the bits of 2/3
    e = code.b.ashr(above, code.constant(above.type, 23))
    return e, _up(code, e, 23)


def _log_sum(code: Code, f: Value, e: Value) -> Value:
    """ln(1 + f) + e·ln2."""
    near = _fma(code, code.b.fmul(f, f), _polynomial(code, f, _LOG), f)
    exponent = code.b.sitofp(e, f.type)
    return _fma(code, exponent, _LN2[0], _fma(code, exponent, _LN2[1], near))


def _log_ends(code: Code, result: Value, x: Value, pole: float) -> Value:
    """`result` where a logarithm is finite; -Inf at the pole, NaN below it, Inf for Inf."""
    at = _number(code, x, pole)
    result = code.b.select(code.b.fcmp_ordered("==", x, _number(code, x, _INF)), x, result)
    result = code.b.select(code.b.fcmp_ordered("==", x, at), _number(code, x, -_INF), result)
    return code.b.select(code.b.fcmp_unordered("<", x, at), _number(code, x, _NAN), result)


def log(code: Code, x: Value) -> Value:
    """The natural logarithm within 2 ulp; log(±0) = -Inf, NaN for negative x."""
    denormal = code.b.fcmp_ordered("<", x, _number(code, x, 2.0**-126))
    normal = code.b.select(denormal, code.b.fmul(x, _number(code, x, 2.0**23)), x)
    e, scale = _log_scale(code, normal)
    f = code.b.fsub(_float(code, code.b.sub(_bits(code, normal), scale), x), _number(code, x, 1.0))
    gained = code.b.select(denormal, code.constant(e.type, 23), code.constant(e.type, 0))
    return _log_ends(code, _log_sum(code, f, code.b.sub(e, gained)), x, 0.0)


def log1p(code: Code, x: Value) -> Value:
    """ln(1 + x) within 2 ulp, near 0 too; log1p(±0) = ±0, log1p(-1) = -Inf, NaN below."""
    # The rounded 1 + x only chooses e; f = (1 + x)·2⁻ᵉ - 1 = x·2⁻ᵉ + (2⁻ᵉ - 1) keeps what it lost. 2⁻¹²⁸ is no normal
    # number, so 2¹⁻ᵉ is made and halved; it comes out as 0 for e = 128, which is near enough.
    e, scale = _log_scale(code, code.b.fadd(x, _number(code, x, 1.0)))
    scaled = _float(code, code.b.sub(_bits(code, x), scale), x)
    twice = _float(code, code.b.sub(code.constant(scale.type, (_BIAS + 1) << 23), scale), x)
    f = code.b.fadd(scaled, _fma(code, twice, 0.5, -1.0))
    return _log_ends(code, _signed_as(code, _log_sum(code, f, e), x), x, -1.0)


def _wave(code: Code, x: Value, ahead: int) -> Value:
    """sin(x + ahead·π/2)."""
    # x = n·π/2 + r, in float64, where two parts of π/2 leave r accurate while n is exact. n modulo 4 says which of
    # ±sin(r) and ±cos(r) it is.
    wide = code.b.fpext(x, _like(x, F64))
    rounded = _fma(code, wide, _TWO_OVER_PI, _ROUND64)
    n = code.b.fsub(rounded, _number(code, wide, _ROUND64))
    r = code.b.fptrunc(_fma(code, n, -_HALF_PI[1], _fma(code, n, -_HALF_PI[0], wide)), x.type)
    square = code.b.fmul(r, r)
    sine = _signed_as(code, _fma(code, code.b.fmul(r, square), _polynomial(code, square, _SIN), r), r)  # -0 stays -0
    cosine = _fma(code, square, _polynomial(code, square, _COS), 1.0)
    quarter = code.b.trunc(code.b.bitcast(rounded, _like(x, I64)), _like(x, I32))
    quarter = code.b.add(quarter, code.constant(quarter.type, ahead))
    odd = code.b.icmp_signed("!=", code.b.and_(quarter, code.constant(quarter.type, 1)), code.constant(quarter.type, 0))
    sign = _up(code, code.b.and_(quarter, code.constant(quarter.type, 2)), 30)
    value = _float(code, code.b.xor(_bits(code, code.b.select(odd, cosine, sine)), sign), x)
    near = code.b.fcmp_ordered("<=", code.intrinsic("fabs", x), _number(code, x, 2.0**50))
    return code.b.select(near, value, _number(code, x, _NAN))


def sin(code: Code, x: Value) -> Value:
    """The sine within 2 ulp for |x| <= 2⁵⁰; NaN beyond, where neighbouring floats are millions of periods apart."""
    return _wave(code, x, 0)


def cos(code: Code, x: Value) -> Value:
    """The cosine within 2 ulp for |x| <= 2⁵⁰; NaN beyond, where neighbouring floats are millions of periods apart."""
    return _wave(code, x, 1)


def gelu(code: Code, x: Value) -> Value:
    """x·Φ(x) within 2 ulp of x/2; for negative x, where PyTorch's 1 + erf cancels, within 2⁻¹⁴ of itself to -3.5."""
    # max(x, 0) + min(x, -x)·Φ(-|x|): the tail of the normal distribution is 4⁻ʷ with w smooth, as in `erf`, and neither
    # sign nor √2 cost anything. Where the tail's argument ends, its power's bits are those of 0.
    c = _at_least(code, code.b.fneg(code.intrinsic("fabs", x)), -_TAIL_END)
    w = _fma(code, c, _polynomial(code, c, _TAIL), 0.5)
    rounded = code.b.fsub(_number(code, w, _ROUND_HALVES + _BIAS / 2), w)
    f = code.b.fsub(w, code.b.fsub(_number(code, w, _ROUND_HALVES + _BIAS / 2), rounded))
    fraction = _polynomial(code, f, (1.0, -1.0 - _ONE_MINUS_POWER[0], *(-p for p in _ONE_MINUS_POWER[1:])))
    tail = code.b.fmul(fraction, _power_of_two(code, rounded))
    zero = _number(code, x, 0.0)
    positive = code.b.select(code.b.fcmp_ordered("<", x, zero), zero, x)
    # -Inf stays itself and meets a tail of 0: NaN, as in PyTorch.
    return _fma(code, code.b.select(code.b.fcmp_ordered("<", c, x), c, x), tail, positive)


def gelu_tanh(code: Code, x: Value) -> Value:
    """x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))) in PyTorch's order; the same is lost."""
    cube = code.b.fmul(code.b.fmul(x, x), x)
    sum_ = code.b.fadd(x, code.b.fmul(_number(code, x, 0.044715), cube))
    inner = code.b.fmul(_number(code, x, _TWO_OVER_PI**0.5), sum_)
    one_plus = code.b.fadd(_number(code, x, 1.0), tanh(code, inner))
    return code.b.fmul(code.b.fmul(x, _number(code, x, 0.5)), one_plus)


def _with_bump(code: Code, x: Value, bump: Sequence[Sequence[float]]) -> Value:
    """max(x, 0) + p(min(|x|, 5.4)), where p is one of 16 polynomials."""
    u = _at_most(code, code.intrinsic("fabs", x), _BUMP_END)
    rounded = _fma(code, u, _BUMP_STEPS, _ROUND)
    t = _fma(code, u, _BUMP_STEPS, code.b.fneg(code.b.fsub(rounded, _number(code, x, _ROUND))))
    # The low bits of `rounded` are the piece's number.
    c0, c1, c2, c3, c4 = (code.module.isa.sixteenth(code, powers, _bits(code, rounded)) for powers in bump)
    low, high = code.intrinsic("fma", t, c1, c0), code.intrinsic("fma", t, c3, c2)
    square = code.b.fmul(t, t)
    zero = _number(code, x, 0.0)
    positive = code.b.select(code.b.fcmp_ordered(">", x, zero), x, zero)  # the bump alone keeps a NaN
    rest = code.intrinsic("fma", code.intrinsic("fma", square, c4, high), square, low)
    return code.b.fadd(positive, rest)


def gelu_coarse(code: Code, x: Value) -> Value:
    """`gelu` within 5·10⁻⁷ of itself or of 1, in half of the time: for what is quantized at once."""
    return _with_bump(code, x, _GELU_BUMP)


def gelu_tanh_coarse(code: Code, x: Value) -> Value:
    """`gelu_tanh`, likewise."""
    return _with_bump(code, x, _GELU_TANH_BUMP)


def silu(code: Code, x: Value) -> Value:
    """x·sigmoid(x), or swish, within 4 ulp down to x = -87; below, sigmoid is denormal and has fewer digits."""
    return code.b.fmul(x, sigmoid(code, x))


def softplus(code: Code, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """ln(1 + exp(beta·x)) / beta within 4 ulp for beta = 1; x itself where beta·x > threshold, as in PyTorch."""
    scaled = x if beta == 1.0 else code.b.fmul(x, _number(code, x, beta))
    soft = log1p(code, exp(code, scaled))
    soft = soft if beta == 1.0 else code.b.fdiv(soft, _number(code, x, beta))
    return code.b.select(code.b.fcmp_ordered(">", scaled, _number(code, x, threshold)), x, soft)


def rsqrt(code: Code, x: Value) -> Value:
    """1 / √x, each rounded: within 2 ulp; rsqrt(±0) = ±Inf, NaN for negative x."""
    return code.b.fdiv(_number(code, x, 1.0), code.intrinsic("sqrt", x))


FLOAT32_FUNCTIONS: Mapping[str, Callable[[Code, Value], Value]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "erf": erf,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "sin": sin,
    "cos": cos,
    "gelu": gelu,
    "gelu_coarse": gelu_coarse,
    "gelu_tanh": gelu_tanh,
    "gelu_tanh_coarse": gelu_tanh_coarse,
    "silu": silu,
    "softplus": softplus,
    "rsqrt": rsqrt,
}
"""Every function that a body may name, from its float32 argument."""
