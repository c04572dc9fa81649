"""Elements in memory, where registers hold them otherwise.

    bool    one byte, 0 or 1                one bit
    bf16    the upper half of a float32     the float32, its lower half 0
    f16     IEEE half precision             the float32 of the same value

A cast to a narrow float rounds in the register, to nearest even; storing it then loses nothing. bf16 is rounded by
integer arithmetic on every CPU: the instruction that does it (`vcvtneps2bf16`) takes denormal numbers for 0.
"""

from __future__ import annotations

from ..program.dtypes import DTYPES, computed
from .builder import ELEMENT, F16, F32, I8, I16, I32, LANES, Code, Type, Value, is_vector, vector

_UPPER = -0x10000
"""The upper half of 32 bits."""
_QUIET = 0x400000


def memory_type(dtype: str) -> Type:
    """The LLVM type that an element is loaded and stored as."""
    return {"bool": I8, "bf16": I16, "f16": I16}.get(dtype) or ELEMENT[dtype]


def _like(value: Value, element: Type) -> Type:
    return vector(element, value.type.count) if is_vector(value) else element


def from_memory(code: Code, dtype: str, value: Value) -> Value:
    """What a register holds of an element, or a vector of them, that was loaded as `memory_type`."""
    if dtype == "bool":
        return code.b.icmp_unsigned("!=", value, code.constant(value.type, 0))
    if dtype == "bf16":
        return lower_halves(code, code.b.zext(value, _like(value, I32)))
    if dtype == "f16":
        return code.b.fpext(code.b.bitcast(value, _like(value, F16)), _like(value, F32))
    return value


def to_memory(code: Code, dtype: str, value: Value) -> Value:
    """What memory holds of a register of this dtype."""
    if dtype == "bool":
        return code.b.zext(value, _like(value, I8))
    if dtype == "bf16":
        bits = code.b.bitcast(value, _like(value, I32))
        return code.b.trunc(code.b.lshr(bits, code.constant(bits.type, 16)), _like(value, I16))
    if dtype == "f16":
        return code.b.bitcast(code.b.fptrunc(value, _like(value, F16)), _like(value, I16))
    return value


def rounded(code: Code, dtype: str, value: Value) -> Value:
    """A float32 as the nearest number of the narrow `dtype`, to even in the middle; NaN stays one."""
    if dtype == "f16":
        return code.b.fpext(code.b.fptrunc(value, _like(value, F16)), value.type)
    bits = code.b.bitcast(value, _like(value, I32))
    odd = code.b.and_(code.b.lshr(bits, code.constant(bits.type, 16)), code.constant(bits.type, 1))
    nearest = code.b.add(code.b.add(bits, code.constant(bits.type, 0x7FFF)), odd)
    nan = code.b.or_(bits, code.constant(bits.type, _QUIET))
    whole = code.b.select(code.b.fcmp_unordered("uno", value, value), nan, nearest)
    return code.b.bitcast(code.b.and_(whole, code.constant(bits.type, _UPPER)), value.type)


def lower_halves(code: Code, pairs: Value) -> Value:
    """The bf16 in the lower half of 32 bits, as a float32."""
    return code.b.bitcast(code.b.shl(pairs, code.constant(pairs.type, 16)), _like(pairs, F32))


def upper_halves(code: Code, pairs: Value) -> Value:
    """The bf16 in the upper half of 32 bits, as a float32."""
    return code.b.bitcast(code.b.and_(pairs, code.constant(pairs.type, _UPPER)), _like(pairs, F32))


def load_vector(code: Code, dtype: str, pointer: Value, mask: Value | None = None) -> Value:
    """Lanes of contiguous elements; where `mask` is 0 memory is not touched and the lane is 0."""
    return from_memory(code, dtype, code.masked_load(memory_type(dtype), pointer, mask))


def load_panel(code: Code, dtype: str, pointer: Value) -> Value:
    """16 lanes that begin at a multiple of their bytes."""
    kind = vector(memory_type(dtype))
    return from_memory(code, dtype, code.load(kind, pointer, align=LANES * DTYPES[dtype].size))


def load_everywhere(code: Code, dtype: str, pointer: Value) -> Value:
    """One float in all lanes."""
    assert computed(dtype) == "f32"
    if dtype != "bf16":
        return code.splat(from_memory(code, dtype, code.load(memory_type(dtype), pointer)))
    # Twice a lane, and the lower one taken away again: one instruction that loads and one that masks.
    return upper_halves(code, code.b.bitcast(code.splat(code.load(I16, pointer), 2 * LANES), vector(I32)))
