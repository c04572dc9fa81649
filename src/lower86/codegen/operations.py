"""The scalar operations that bodies name: `OPERATIONS`, one visible table, each on a scalar or on a vector of lanes.

Floats are never contracted or reordered, integers wrap, nothing traps: the results are those of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..program.dtypes import DTYPES, computed, is_narrow
from .builder import ELEMENT, I32, I64, Code, Type, Value, is_vector, suffix, vector
from .division import DIVISION
from .mathematics import FLOAT32_FUNCTIONS
from .powers import FLOAT32_POWERS
from .storage import rounded

Operation = Callable[..., Value]
"""(code, dtype of the operands, dtype of the result, *operands) -> result"""


def _is_float(dtype: str) -> bool:
    return DTYPES[dtype].kind == "float"


def _arithmetic(float_name: str, int_name: str) -> Operation:
    def emit(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
        return getattr(code.b, float_name if _is_float(operand) else int_name)(a, b)

    return emit


def _add(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
    if operand == "bool":
        return code.b.or_(a, b)  # one bit would wrap
    return _arithmetic("fadd", "add")(code, operand, result, a, b)


def _compare(symbol: str, float_ordered: bool = True) -> Operation:
    def emit(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
        kind = DTYPES[operand].kind
        if kind == "float":
            return (code.b.fcmp_ordered if float_ordered else code.b.fcmp_unordered)(symbol, a, b)
        return (code.b.icmp_signed if kind == "int" else code.b.icmp_unsigned)(symbol, a, b)

    return emit


def _quiet(code: Code, dtype: str, nan: Value) -> Value:
    """The NaN itself. LLVM does not see that, or it would join a maximum's two conditions: 9 cycles in place of 3."""
    integers, quiet = (I64, 0x7FF8 << 48) if dtype == "f64" else (I32, 0x7FC0 << 16)
    kind = vector(integers, nan.type.count) if is_vector(nan) else integers
    return code.b.bitcast(code.b.or_(code.b.bitcast(nan, kind), code.constant(kind, quiet)), nan.type)


def _extreme(symbol: str) -> Operation:
    def emit(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
        if not _is_float(operand):
            return code.b.select(_compare(symbol)(code, operand, "bool", a, b), a, b)
        # One max instruction keeps the second operand when either is NaN; `b` is then checked by itself.
        best = code.b.select(code.b.fcmp_ordered(symbol, b, a), b, a)
        return code.b.select(code.b.fcmp_unordered("uno", b, b), _quiet(code, operand, b), best)

    return emit


def _bitwise(name: str) -> Operation:
    return lambda code, operand, result, a, b: getattr(code.b, name)(a, b)


def _rounding(name: str) -> Operation:
    return lambda code, operand, result, a: code.intrinsic(name, a) if _is_float(operand) else a


def _negate(code: Code, operand: str, result: str, a: Value) -> Value:
    return code.b.fneg(a) if _is_float(operand) else code.b.neg(a)


def _absolute(code: Code, operand: str, result: str, a: Value) -> Value:
    if _is_float(operand):
        return code.intrinsic("fabs", a)
    if DTYPES[operand].kind == "uint":
        return a
    return code.b.select(code.b.icmp_signed("<", a, code.constant(a.type, 0)), code.b.neg(a), a)


def _invert(code: Code, operand: str, result: str, a: Value) -> Value:
    return code.b.not_(a)


def _select(code: Code, operand: str, result: str, condition: Value, a: Value, b: Value) -> Value:
    return code.b.select(condition, a, b)


def _like(value: Value, element: Type) -> Type:
    return vector(element) if is_vector(value) else element


def _cast(code: Code, operand: str, result: str, a: Value) -> Value:
    if operand == result:
        return a
    if is_narrow(result):
        return rounded(code, result, _cast(code, operand, "f32", a))
    operand = computed(operand)
    if operand == result:
        return a
    source, target = DTYPES[operand], DTYPES[result]
    kind = _like(a, ELEMENT[result])
    if target.kind == "bool":
        if source.kind == "float":
            return code.b.fcmp_unordered("!=", a, code.constant(a.type, 0))
        return code.b.icmp_unsigned("!=", a, code.constant(a.type, 0))
    if source.kind == "float":
        if target.kind == "float":
            return code.b.fpext(a, kind) if target.size > source.size else code.b.fptrunc(a, kind)
        # As the CPU's own conversion does, by way of 64 bits where the target is narrower: wraps, never undefined.
        exact = _saturated(code, a, I64)
        return exact if target.size == 8 else code.b.trunc(exact, kind)
    if target.kind == "float":
        return code.b.sitofp(a, kind) if source.kind == "int" else code.b.uitofp(a, kind)
    if target.size == source.size and source.kind != "bool":
        return a
    if target.size < source.size:
        return code.b.trunc(a, kind)
    return code.b.sext(a, kind) if source.kind == "int" else code.b.zext(a, kind)


def _saturated(code: Code, x: Value, element: Type) -> Value:
    """A float as an integer: the nearest one that there is where it is out of range, 0 for NaN."""
    kind = _like(x, element)
    name = f"llvm.fptosi.sat.{suffix(kind)}.{suffix(x.type)}"
    return code.call(code.module.declare(name, kind, x.type), [x])


def _quantize(
    code: Code, operand: str, result: str, x: Value, inverse: Value, zero: Value, low: Value, high: Value
) -> Value:
    """clamp(rint(x·inverse) + zero, low, high), converted after the clamp; NaN gives `zero`."""
    q = code.intrinsic("rint", code.b.fmul(x, inverse))
    q = code.b.select(code.b.fcmp_ordered("ord", q, q), q, code.constant(q.type, 0.0))
    q = code.b.fadd(q, zero)
    q = code.b.select(code.b.fcmp_ordered(">", q, low), q, low)
    q = code.b.select(code.b.fcmp_ordered("<", q, high), q, high)
    if result == "i32":
        return _saturated(code, q, I32)  # the highest i32, as a float, is one too high
    return code.b.trunc(code.b.fptosi(q, _like(q, I32)), _like(q, ELEMENT[result]))


def quantized_steps(code: Code, x: Value, inverse: Value) -> Value:
    """Steps from the zero point as i32, rounded as they are converted, of what is surely far below 2^31 of them."""
    scaled = code.b.fmul(x, inverse)
    kind = _like(x, I32)
    return code.call(code.module.declare(f"llvm.lrint.{suffix(kind)}.{suffix(x.type)}", kind, x.type), [scaled])


def _quantize_bounded(code: Code, operand: str, result: str, x: Value, inverse: Value, zero: Value) -> Value:
    """As `_quantize`, to the whole range of u8 or i8, of what is surely a number and far below 2^31 steps from 0.

    Clamped as an integer: the last step is one instruction that narrows and saturates.
    """
    q = code.b.add(quantized_steps(code, x, inverse), zero)
    low, high = (-128, 127) if result == "i8" else (0, 255)
    q = code.intrinsic("smax", q, code.constant(q.type, low))
    q = code.intrinsic("smin" if result == "i8" else "umin", q, code.constant(q.type, high))
    return code.b.trunc(q, _like(q, ELEMENT[result]))


def _dequantize(code: Code, operand: str, result: str, q: Value, scale: Value, zero: Value) -> Value:
    return code.b.fmul(code.b.fsub(_cast(code, operand, "f32", q), zero), scale)


def _function(emit: Callable[..., Value]) -> Operation:
    return lambda code, operand, result, *arguments: emit(code, *arguments)


OPERATIONS: Mapping[str, Operation] = {
    "add": _add,
    "sub": _arithmetic("fsub", "sub"),
    "mul": _arithmetic("fmul", "mul"),
    "div": _arithmetic("fdiv", "fdiv"),  # integers have no division here: a zero would trap
    "fma": lambda code, operand, result, a, b, c: code.intrinsic("fma", a, b, c),
    "max": _extreme(">"),
    "min": _extreme("<"),
    "neg": _negate,
    "abs": _absolute,
    "sqrt": _rounding("sqrt"),
    "rint": _rounding("rint"),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "eq": _compare("=="),
    "ne": _compare("!=", float_ordered=False),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "and": _bitwise("and_"),
    "or": _bitwise("or_"),
    "xor": _bitwise("xor"),
    "not": _invert,
    "select": _select,
    "cast": _cast,
    "quantize": _quantize,
    "quantize_bounded": _quantize_bounded,
    "dequantize": _dequantize,
    **DIVISION,
    **{name: _function(emit) for name, emit in {**FLOAT32_FUNCTIONS, **FLOAT32_POWERS}.items()},
}
"""Every scalar operation a body may name. Floats are never contracted or reordered: results are those of the graph."""
