"""Integer division and shifts that are defined for every operand: the CPU's trap, or depend on the CPU, for some."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..program.dtypes import DTYPES
from .builder import Code, Value


def quotient(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
    """a / b towards zero; 0 for b = 0, and the lowest number divided by -1 wraps."""
    zero, one = code.constant(a.type, 0), code.constant(a.type, 1)
    nothing = code.b.icmp_unsigned("==", b, zero)
    if DTYPES[operand].kind == "uint":
        divided = code.b.udiv(a, code.b.select(nothing, one, b))
    else:
        negative = code.b.icmp_signed("==", b, code.constant(a.type, -1))
        divided = code.b.sdiv(a, code.b.select(code.b.or_(nothing, negative), one, b))
        divided = code.b.select(negative, code.b.neg(a), divided)
    return code.b.select(nothing, zero, divided)


def _out_of_range(code: Code, operand: str, by: Value) -> Value:
    return code.b.icmp_unsigned(">=", by, code.constant(by.type, 8 * DTYPES[operand].size))


def shift_left(code: Code, operand: str, result: str, a: Value, by: Value) -> Value:
    """a·2ᵇ, wrapped; 0 where `by` is negative or as large as the number has bits."""
    beyond = _out_of_range(code, operand, by)
    zero = code.constant(a.type, 0)
    return code.b.select(beyond, zero, code.b.shl(a, code.b.select(beyond, zero, by)))


def shift_right(code: Code, operand: str, result: str, a: Value, by: Value) -> Value:
    """a / 2ᵇ rounded down; only the sign is left where `by` is negative or as large as the number has bits."""
    beyond = _out_of_range(code, operand, by)
    if DTYPES[operand].kind == "uint":
        zero = code.constant(a.type, 0)
        return code.b.select(beyond, zero, code.b.lshr(a, code.b.select(beyond, zero, by)))
    most = code.constant(a.type, 8 * DTYPES[operand].size - 1)
    return code.b.ashr(a, code.b.select(beyond, most, by))


DIVISION: Mapping[str, Callable[..., Value]] = {"quotient": quotient, "shl": shift_left, "shr": shift_right}
"""By the name that a body gives them."""
