"""The only place that writes LLVM IR: a small structured builder over llvmlite.

Loops, branches and mutable variables instead of blocks and phis (LLVM's SROA turns the variables back into registers);
vectors of `LANES` elements on every target, which LLVM splits to the width the CPU has, so that results do not depend
on it. llvmlite carries no types: here, and only here, its objects appear under the name `Value`. That is why it is one
file, long as it is: cut in two, half of the code generator would see llvmlite's own objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir

LANES = 16
"""Elements a vector holds on every target: the order in which sums are taken depends on it."""

Value: TypeAlias = Any
Type: TypeAlias = Any

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64, PTR, VOID = ir.HalfType(), ir.FloatType(), ir.DoubleType(), ir.PointerType(), ir.VoidType()
ELEMENT: dict[str, Type] = {
    "f32": F32, "f64": F64, "i64": I64, "i32": I32, "i16": I16, "i8": I8, "u8": I8, "bool": I1, "bf16": F32, "f16": F32,
}  # fmt: skip
"""Register type of each dtype; `storage` says what is another in memory."""


class _BFloat(ir.HalfType):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's bfloat, which llvmlite lacks: for instructions that want it by name."""

    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"


_BFloat._create_instance()
BF16 = _BFloat()


class _FunctionPointer(type(ir.PointerType(I8))):  # type: ignore[misc]  # llvmlite has no types
    """A pointer that knows its function's type, which calls need, and prints as LLVM's opaque `ptr`."""

    def _to_string(self) -> str:
        return "ptr"


def vector(element: Type, lanes: int = LANES) -> Type:
    """The vector type of `lanes` elements."""
    return ir.VectorType(element, lanes)


def is_vector(value: Value) -> bool:
    """Whether `value` has lanes, rather than being the same for all of them."""
    return isinstance(value.type, ir.VectorType)


class Module:
    """One LLVM module: a kernel and the functions it calls."""

    def __init__(self, name: str, isa: Any = None) -> None:
        self.ir, self.isa = ir.Module(name), isa
        self._declared: dict[str, Value] = {}

    def declare(self, name: str, result: Type, *arguments: Type) -> Value:
        """An external function or intrinsic, declared once."""
        if name not in self._declared:
            self._declared[name] = ir.Function(self.ir, ir.FunctionType(result, arguments), name)
        return self._declared[name]

    def function(self, name: str, result: Type, *arguments: Type, internal: bool = False) -> Code:
        """Starts a function definition; its arguments are `code.arguments`."""
        function = ir.Function(self.ir, ir.FunctionType(result, arguments), name)
        function.attributes.add("nounwind")
        if internal:
            function.linkage = "internal"
            function.attributes.add("noinline")
        return Code(self, function)

    def text(self) -> str:
        """The module as LLVM assembly."""
        return str(self.ir)


class Variable:
    """A mutable local: `get` and `set`; becomes a register."""

    def __init__(self, code: Code, kind: Type, initial: Value) -> None:
        self._code, self._kind = code, kind
        self._slot = code.stack(kind)
        self.set(initial)

    def get(self) -> Value:
        return self._code.b.load(self._slot, typ=self._kind)

    def set(self, value: Value) -> None:
        self._code.b.store(value, self._slot)


class Code:
    """The function being written: every method appends instructions at the current place and returns the result."""

    def __init__(self, module: Module, function: Value) -> None:
        self.module, self.function, self.arguments = module, function, function.args
        self._entry = function.append_basic_block("entry")
        self._body = function.append_basic_block("body")
        ir.IRBuilder(self._entry).branch(self._body)
        self.b = ir.IRBuilder(self._body)

    # Constants and types

    def integer(self, bits: int) -> Type:
        """The integer type of so many bits."""
        return ir.IntType(bits)

    def i64(self, value: int | Value) -> Value:
        """A 64-bit constant; a value that is one already passes through."""
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def i32(self, value: int) -> Value:
        return ir.Constant(I32, value)

    def signed(self, kind: Type, value: int) -> Value:
        """An integer constant of any width."""
        return ir.Constant(kind, value)

    def constant(self, kind: Type, value: float | bool) -> Value:
        """`value` as a scalar, or in every lane of a vector type."""
        if isinstance(kind, ir.VectorType):
            return ir.Constant(kind, [self.constant(kind.element, value).constant] * kind.count)
        number: object = float(value) if kind in (F32, F64) else int(value)
        return ir.Constant(kind, number)

    def vector_of(self, element: Type, values: Sequence[float]) -> Value:
        """A vector of constants."""
        return ir.Constant(vector(element, len(values)), list(values))

    def bits_of(self, value: float) -> Value:
        """The bits of a float32, as a 32-bit constant."""
        return ir.Constant(I32, struct.unpack("<i", struct.pack("<f", value))[0])

    def is_zero(self, value: Value) -> bool:
        """Whether `value` is the constant 0."""
        return isinstance(value, ir.Constant) and value.constant == 0

    def undefined(self, kind: Type) -> Value:
        return ir.Constant(kind, ir.Undefined)

    def splat(self, value: Value, lanes: int = LANES) -> Value:
        """A scalar in all lanes; a vector passes through."""
        if is_vector(value):
            return value
        if isinstance(value, ir.Constant) and value.constant is not ir.Undefined:
            return self.constant(vector(value.type, lanes), value.constant)
        undefined = self.undefined(vector(value.type, lanes))
        return self.b.shuffle_vector(
            self.b.insert_element(undefined, value, self.i32(0)),
            undefined,
            ir.Constant(vector(I32, lanes), [0] * lanes),
        )

    def iota(self) -> Value:
        """0, 1, 2, … as 64-bit lanes."""
        return ir.Constant(vector(I64), list(range(LANES)))

    # Memory

    def stack(self, kind: Type, count: int = 1, align: int = 64) -> Value:
        """`count` elements of the function's own memory, allocated once a call."""
        slot = ir.IRBuilder(self._entry.instructions[-1].parent)
        slot.position_before(self._entry.instructions[-1])
        memory = slot.alloca(kind, size=ir.Constant(I64, count))
        memory.align = align
        memory.type = PTR  # so that anything may be stored there
        return memory

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """The address `offset` bytes after `pointer`."""
        if isinstance(offset, int) and offset == 0:
            return pointer
        return self.b.gep(pointer, [self.i64(offset)], source_etype=I8)

    def load(self, kind: Type, pointer: Value, align: int = 1) -> Value:
        return self.b.load(pointer, typ=kind, align=align)

    def store(self, value: Value, pointer: Value, align: int = 1) -> None:
        self.b.store(value, pointer, align=align)

    def prefetch(self, pointer: Value) -> None:
        """Has the cache line at `pointer` brought to the second cache level; any address will do."""
        function = self.module.declare("llvm.prefetch.p0", VOID, PTR, I32, I32, I32)
        self.b.call(function, [pointer, self.i32(0), self.i32(2), self.i32(1)])

    def masked_load(self, element: Type, pointer: Value, mask: Value | None) -> Value:
        """Lanes of contiguous elements; where `mask` is 0 memory is not touched and the lane is 0."""
        kind = vector(element)
        if mask is None:
            return self.load(kind, pointer)
        name = f"llvm.masked.load.{suffix(kind)}.p0"
        load = self.module.declare(name, kind, PTR, I32, vector(I1), kind)
        return self.b.call(load, [pointer, self.i32(1), mask, self.constant(kind, 0)])

    def masked_store(self, value: Value, pointer: Value, mask: Value | None) -> None:
        """Stores the first lanes of `value`, those set in `mask`, next to each other; nothing beyond is touched."""
        if mask is None:
            self.store(value, pointer)
            return
        name = f"llvm.masked.store.{suffix(value.type)}.p0"
        store = self.module.declare(name, VOID, value.type, PTR, I32, vector(I1))
        arguments = [value, pointer, self.i32(1), mask]
        element = value.type.element
        if not isinstance(element, ir.IntType) or element.width == 64:
            self.b.call(store, arguments)
            return
        # Where the mask is known to be lane 0 alone, LLVM 22 stores a truncated integer as it was before truncation,
        # over the bytes beyond (llvm/llvm-project#179489). It must never see such a mask: one lane goes by itself.
        with self.b.if_else(self.b.extract_element(mask, self.i32(1))) as (several, one):
            with several:
                self.b.call(store, arguments)
            with one, self.when(self.b.extract_element(mask, self.i32(0))):
                self.store(self.b.extract_element(value, self.i32(0)), pointer)

    def load_first(self, element: Type, pointer: Value, count: int, lanes: int) -> Value:
        """`lanes` elements, of which the first `count` are read; nothing beyond is touched, and is 0."""
        kind = vector(element, lanes)
        if count == lanes:
            return self.load(kind, pointer)
        name = f"llvm.masked.load.{suffix(kind)}.p0"
        load = self.module.declare(name, kind, PTR, I32, vector(I1, lanes), kind)
        mask = ir.Constant(vector(I1, lanes), [int(i < count) for i in range(lanes)])
        return self.b.call(load, [pointer, self.i32(1), mask, self.constant(kind, 0)])

    def gather(self, element: Type, pointer: Value, offsets: Value, mask: Value | None) -> Value:
        """Lanes from `pointer` plus byte `offsets`; where `mask` is 0 memory is not touched and the lane is 0."""
        kind, pointers = vector(element), vector(PTR)
        addresses = self.b.gep(pointer, [offsets], source_etype=I8)
        addresses.type = pointers
        name = f"llvm.masked.gather.{suffix(kind)}.v{LANES}p0"
        gather = self.module.declare(name, kind, pointers, I32, vector(I1), kind)
        every = self.constant(vector(I1), 1) if mask is None else mask
        return self.b.call(gather, [addresses, self.i32(1), every, self.constant(kind, 0)])

    def spread(self, value: Value, pointer: Value, step: int) -> None:
        """Stores lanes `step` bytes apart, one by one: no CPU scatters elements of less than 32 bits."""
        for lane in range(value.type.count):
            self.store(self.b.extract_element(value, self.i32(lane)), self.at(pointer, lane * step))

    def scatter(self, value: Value, pointer: Value, offsets: Value, mask: Value | None) -> None:
        """Stores lane by lane at `pointer` plus byte `offsets`."""
        pointers = vector(PTR)
        addresses = self.b.gep(pointer, [offsets], source_etype=I8)
        addresses.type = pointers
        name = f"llvm.masked.scatter.{suffix(value.type)}.v{LANES}p0"
        scatter = self.module.declare(name, VOID, value.type, pointers, I32, vector(I1))
        every = self.constant(vector(I1), 1) if mask is None else mask
        self.b.call(scatter, [value, addresses, self.i32(1), every])

    # Memory that threads share; every operation is sequentially consistent

    def pointer(self, address: Value) -> Value:
        """The pointer that a 64-bit integer holds."""
        return self.b.inttoptr(address, PTR)

    def atomic_load(self, kind: Type, pointer: Value) -> Value:
        return self.b.load_atomic(pointer, "seq_cst", kind.width // 8, typ=kind)

    def atomic(self, operation: str, pointer: Value, value: Value) -> Value:
        """Changes memory by `xchg` (which is how to store), `add`, `sub`, …; the value that was there."""
        return self.b.atomic_rmw(operation, pointer, value, "seq_cst")

    def compare_exchange(self, pointer: Value, expected: Value, new: Value) -> tuple[Value, Value]:
        """Stores `new` if memory holds `expected`; the value that was there, and whether it was the expected one."""
        pair = self.b.cmpxchg(pointer, expected, new, "seq_cst")
        return self.b.extract_value(pair, 0), self.b.extract_value(pair, 1)

    def pause(self) -> None:
        """Tells the core that this is a loop that waits."""
        self.b.call(self.module.declare("llvm.x86.sse2.pause", VOID), [])

    def cpu(self) -> Value:
        """The number of the CPU this runs on, as Linux leaves it beside the time stamp counter."""
        read = self.module.declare("llvm.x86.rdtscp", ir.LiteralStructType([I64, I32]))
        auxiliary = self.b.zext(self.b.extract_value(self.b.call(read, []), 1), I64)
        return self.b.and_(auxiliary, self.i64(0xFFF))  # above it is the number of the memory node

    def cycles(self) -> Value:
        """The time stamp counter: two to five thousand million a second."""
        return self.b.call(self.module.declare("llvm.readcyclecounter", I64), [])

    # Arithmetic on 64-bit indices, folding what is known

    def add(self, a: Value | int, b: Value | int) -> Value | int:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.add(self.i64(a), self.i64(b))

    def mul(self, a: Value | int, b: Value | int) -> Value | int:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        for one, other in ((a, b), (b, a)):
            if isinstance(one, int) and one in (0, 1):
                return other if one else 0
        return self.b.mul(self.i64(a), self.i64(b))

    def sub(self, a: Value | int, b: Value | int) -> Value | int:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return self.b.sub(self.i64(a), self.i64(b))

    def div(self, a: Value | int, b: Value | int) -> Value | int:
        """Quotient of non-negative numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if isinstance(b, int) and b == 1 else self.b.udiv(self.i64(a), self.i64(b))

    def floor_div(self, a: Value | int, b: Value | int) -> Value | int:
        """Quotient of any number and a positive one, rounded down."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        x, y = self.i64(a), self.i64(b)
        below = self.b.select(self.b.icmp_signed("<", self.b.srem(x, y), self.i64(0)), self.i64(1), self.i64(0))
        return self.b.sub(self.b.sdiv(x, y), below)

    def rem(self, a: Value | int, b: Value | int) -> Value | int:
        """Remainder of non-negative numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        return 0 if isinstance(b, int) and b == 1 else self.b.urem(self.i64(a), self.i64(b))

    def minimum(self, a: Value | int, b: Value | int) -> Value | int:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        x, y = self.i64(a), self.i64(b)
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def less(self, a: Value | int, b: Value | int) -> Value:
        return self.b.icmp_signed("<", self.i64(a), self.i64(b))

    def lanes_below(self, count: Value | int) -> Value:
        """A mask with the first `count` lanes set."""
        return self.b.icmp_signed("<", self.iota(), self.splat(self.i64(count)))

    # Control

    def variable(self, initial: Value) -> Variable:
        return Variable(self, initial.type, initial)

    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """`for i in range(start, stop, step)`; yields the counter."""
        counter = self.variable(self.i64(start))
        head, body, after = (self.function.append_basic_block(name) for name in ("head", "loop", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        i = counter.get()
        self.b.cbranch(self.less(i, stop), body, after)
        self.b.position_at_end(body)
        yield i
        counter.set(self.b.add(i, self.i64(step)))
        self.b.branch(head)
        self.b.position_at_end(after)

    @contextmanager
    def when(self, condition: Value, *, unlikely: bool = False) -> Iterator[None]:
        """Runs the block only if `condition`, a single bit, is set."""
        with self.b.if_then(condition, likely=None if not unlikely else False):
            yield

    def while_loop(self, condition: Callable[[], Value], body: Callable[[], None]) -> None:
        """Evaluates `condition`, runs `body` if it is set, and starts again."""
        head, inside, after = (self.function.append_basic_block(name) for name in ("while", "inside", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        self.b.cbranch(condition(), inside, after)
        self.b.position_at_end(inside)
        body()
        self.b.branch(head)
        self.b.position_at_end(after)

    def call(self, function: Value, arguments: Sequence[Value]) -> Value:
        return self.b.call(function, list(arguments))

    def call_address(self, address: Value, result: Type, arguments: Sequence[Value]) -> Value:
        """Calls the function whose address is the 64-bit integer `address`."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.b.call(self.b.inttoptr(address, _FunctionPointer(kind)), list(arguments))

    def ret(self, value: Value | None = None) -> None:
        if value is None:
            self.b.ret_void()
        else:
            self.b.ret(value)

    # Vector and scalar operations that are intrinsics

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """An LLVM intrinsic whose result and arguments share one type: `fma`, `rint`, `minnum`, …"""
        kind = arguments[0].type
        function = self.module.declare(f"llvm.{name}.{suffix(kind)}", kind, *(a.type for a in arguments))
        return self.b.call(function, list(arguments))

    def reduce(self, name: str, value: Value) -> Value:
        """All lanes combined by `fmax`, `fmin`, `or`, `add`, `smax`, …; floats are added in pairs, in a fixed order."""
        function = self.module.declare(
            f"llvm.vector.reduce.{name}.{suffix(value.type)}", value.type.element, value.type
        )
        return self.b.call(function, [value])

    def halves(self, value: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Lane 0 of a tree that combines the upper half of the lanes into the lower half until one is left."""
        lanes = value.type.count
        while lanes > 1:
            lanes //= 2
            low = self.b.shuffle_vector(value, value, ir.Constant(vector(I32, lanes), list(range(lanes))))
            high = self.b.shuffle_vector(value, value, ir.Constant(vector(I32, lanes), list(range(lanes, 2 * lanes))))
            value = combine(low, high)
        return self.b.extract_element(value, self.i32(0))

    def part(self, value: Value, first: int, count: int) -> Value:
        """`count` lanes of a vector, from `first`."""
        return self.shuffled(value, range(first, first + count))

    def shuffled(self, value: Value, order: Sequence[int]) -> Value:
        """Lane `order[i]` of a vector as lane i."""
        return self.b.shuffle_vector(value, value, ir.Constant(vector(I32, len(order)), list(order)))

    def unpacked(self, a: Value, b: Value, block: int, half: int) -> Value:
        """Lanes of a and b in turn: of every `block` lanes the lower half, or with `half` 1 the upper one."""
        lanes = a.type.count
        taken = [start + half * block // 2 + i for start in range(0, lanes, block) for i in range(block // 2)]
        order = [lane for i in taken for lane in (i, lanes + i)]
        return self.b.shuffle_vector(a, b, ir.Constant(vector(I32, lanes), order))

    def joined(self, low: Value, high: Value) -> Value:
        """Two vectors as one of twice the lanes."""
        count = 2 * low.type.count
        return self.b.shuffle_vector(low, high, ir.Constant(vector(I32, count), list(range(count))))

    def interleaved(self, values: Sequence[Value]) -> Value:
        """Lane 0 of each vector, then lane 1 of each, …"""
        lanes, count = values[0].type.count, len(values)
        whole = values[0]
        for value in values[1:]:
            # Shuffles take two vectors of one type: the shorter one is filled up with anything.
            order = [min(i, lanes - 1) for i in range(whole.type.count)]
            filled = self.b.shuffle_vector(value, value, ir.Constant(vector(I32, len(order)), order))
            joined = [*range(whole.type.count), *range(whole.type.count, whole.type.count + lanes)]
            whole = self.b.shuffle_vector(whole, filled, ir.Constant(vector(I32, len(joined)), joined))
        mixed = [c * lanes + i for i in range(lanes) for c in range(count)]
        return self.b.shuffle_vector(whole, whole, ir.Constant(vector(I32, len(mixed)), mixed))

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """Column i of a square of vectors as vector i: log2(lanes) rounds that swap ever smaller blocks."""
        rows, lanes, width = list(rows), len(rows), len(rows) // 2
        while width:
            low = [i if not i & width else i + lanes - width for i in range(lanes)]
            high = [i + width if not i & width else i + lanes for i in range(lanes)]
            for a in range(lanes):
                if not a & width:
                    pair = rows[a], rows[a + width]
                    for place, order in ((a, low), (a + width, high)):
                        rows[place] = self.b.shuffle_vector(*pair, ir.Constant(vector(I32, lanes), order))
            width //= 2
        return rows


def suffix(kind: Type) -> str:
    """The type as the names of intrinsics spell it."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return {F32: "f32", F64: "f64"}.get(kind) or f"i{kind.width}"
