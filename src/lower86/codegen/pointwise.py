"""Scalar bodies as code: each node once a point, on one element or on a vector of them.

A node that does not depend on the lane stays a scalar until an operation mixes it with one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..program.body import Body, Node
from ..program.dtypes import DTYPES
from ..program.kernels import Pointwise
from ..program.sizes import Size
from .builder import ELEMENT, I8, I32, I64, LANES, Code, Type, Value, is_vector, suffix, vector
from .division import DIVISION
from .frame import Frame
from .mathematics import FLOAT32_FUNCTIONS
from .powers import FLOAT32_POWERS


@dataclass
class Point:
    """Where in the index space a body is emitted: a scalar index for each dim, lanes along `lane` (None: no lanes)."""

    index: Sequence[Value | int]
    lane: int | None
    mask: Value | None = None
    values: Mapping[int, Value] = field(default_factory=dict)


class BodyEmitter:
    """Emits nodes of one body at one point; each node at most once, and none that is `known` from another point."""

    def __init__(self, frame: Frame, body: Body, point: Point, known: Mapping[int, Value] | None = None) -> None:
        self.frame, self.body, self.point, self.code = frame, body, point, frame.code
        self._done: dict[int, Value] = dict(known or {})

    def node(self, position: int) -> Value:
        """The value of a node: a scalar if all lanes agree, else a vector."""
        if position not in self._done:
            self._done[position] = self._emit(self.body.nodes[position])
        return self._done[position]

    def stores(self, dims: int | None = None) -> None:
        """Emits the body's stores; with `dims`, only those that have that many strides."""
        for store in self.body.stores:
            if dims is None or len(store.strides) == dims:
                self._store(store.slot, store.strides, self.node(store.node), self.body.nodes[store.node].dtype)

    def _emit(self, node: Node) -> Value:
        leaf = _LEAVES.get(node.op)
        if leaf is not None:
            return leaf(self, node)
        arguments = [self.node(a) for a in node.args]
        if any(is_vector(a) for a in arguments):
            arguments = [self.code.splat(a) for a in arguments]
        operand = self.body.nodes[node.args[0]].dtype
        return OPERATIONS[node.op](self.code, operand, node.dtype, *arguments)

    def _offset(self, strides: Sequence[Size], size: int) -> tuple[Value | int, Value | int]:
        """Bytes from the buffer's start to lane 0, and bytes from lane to lane."""
        offset: Value | int = 0
        for index, stride in zip(self.point.index, strides, strict=False):
            offset = self.code.add(offset, self.code.mul(index, self.code.mul(self.frame.size(stride), size)))
        lane = self.point.lane
        step: Value | int = 0
        if lane is not None and lane < len(strides):
            step = self.code.mul(self.frame.size(strides[lane]), size)
        return offset, step

    def _lanes_at(self, step: Value | int) -> Value:
        return self.code.b.mul(self.code.iota(), self.code.splat(self.code.i64(step)))

    def load(self, node: Node) -> Value:
        slot, strides = node.attrs
        offset, step = self._offset(strides, DTYPES[node.dtype].size)  # type: ignore[arg-type]
        return self._read(node.dtype, self.code.at(self.frame.slots[slot], offset), step, None)  # type: ignore[index]

    def _read(self, dtype: str, pointer: Value, step: Value | int, present: Value | None) -> Value:
        """The element at `pointer`, or the lanes from there on; 0 without reading if `present` is given and is 0."""
        element = I8 if dtype == "bool" else ELEMENT[dtype]
        if isinstance(step, int) and step == 0:
            if present is not None:
                pointer = self.code.b.select(present, pointer, self.frame.table)  # there, something can be read
            value = self.code.load(element, pointer)
            if present is not None:
                value = self.code.b.select(present, value, self.code.constant(element, 0))
        elif isinstance(step, int) and step == DTYPES[dtype].size:
            value = self.code.masked_load(element, pointer, self._mask(present))
        else:
            value = self.code.gather(element, pointer, self._lanes_at(step), self._mask(present))
        return self._truth(value) if dtype == "bool" else value

    def _mask(self, present: Value | None) -> Value | None:
        """The point's mask, and no lane unless `present`."""
        if present is None:
            return self.point.mask
        every = self.code.splat(present)
        return every if self.point.mask is None else self.code.b.and_(every, self.point.mask)

    def _truth(self, value: Value) -> Value:
        return self.code.b.icmp_unsigned("!=", value, self.code.constant(value.type, 0))

    def gather(self, node: Node) -> Value:
        slot, strides, places, wraps = node.attrs
        assert isinstance(places, tuple)
        present = self._present([bound for _, bound in places])
        size = DTYPES[node.dtype].size
        offset, step = self._offset(strides, size)  # type: ignore[arg-type]
        pointer = self.code.at(self.frame.slots[slot], offset)  # type: ignore[index]
        extra: Value = self.code.i64(0)
        for argument, (stride, bound) in zip(node.args, places, strict=True):
            index = self._checked_index(self.node(argument), self.frame.size(bound), bool(wraps))
            scale = self.code.i64(self.code.mul(self.frame.size(stride), size))
            if is_vector(index) or is_vector(extra):
                index, scale, extra = (self.code.splat(v) for v in (index, scale, extra))
            extra = self.code.b.add(extra, self.code.b.mul(index, scale))
        if not is_vector(extra):
            return self._read(node.dtype, self.code.at(pointer, extra), step, present)
        element = I8 if node.dtype == "bool" else ELEMENT[node.dtype]
        offsets = self.code.b.add(extra, self._lanes_at(step))
        value = self.code.gather(element, pointer, offsets, self._mask(present))
        return self._truth(value) if node.dtype == "bool" else value

    def _present(self, bounds: Sequence[Size]) -> Value | None:
        """Whether there is an element 0, to read in place of one out of range; None where the sizes say so."""
        unsure = [bound for bound in bounds if not isinstance(bound, int) or bound <= 0]
        some: Value | None = None
        for bound in unsure:
            here = self.code.less(0, self.frame.size(bound))
            some = here if some is None else self.code.b.and_(some, here)
        return some

    def _checked_index(self, index: Value, bound: Value | int, wraps: bool) -> Value:
        """`index`, perhaps counted from the end; one that is out of range fails the run and becomes 0."""
        code, kind = self.code, index.type
        limit = code.splat(code.i64(bound)) if is_vector(index) else code.i64(bound)
        zero = code.constant(kind, 0)
        wrapped = index
        if wraps:
            wrapped = code.b.select(code.b.icmp_signed("<", index, zero), code.b.add(index, limit), index)
        bad = code.b.icmp_unsigned(">=", wrapped, limit)
        if is_vector(index):
            if self.point.mask is not None:
                bad = code.b.and_(bad, self.point.mask)
            any_bad = code.reduce("or", bad)
            worst = code.b.select(bad, index, zero)
            seen = code.halves(worst, lambda a, b: code.b.select(_nonzero(code, a), a, b))
        else:
            any_bad, seen = bad, index
        with code.when(any_bad, unlikely=True):
            self.frame.report_index(seen, bound)
        return code.b.select(bad, zero, wrapped)

    def index(self, node: Node) -> Value:
        (dim,) = node.attrs
        start = self.code.i64(self.point.index[dim])  # type: ignore[index]
        if dim != self.point.lane:
            return start
        return self.code.b.add(self.code.splat(start), self.code.iota())

    def const(self, node: Node) -> Value:
        return self.code.constant(ELEMENT[node.dtype], node.attrs[0])  # type: ignore[arg-type]

    def param(self, node: Node) -> Value:
        return self.frame.param(node.attrs[0], node.dtype)  # type: ignore[arg-type]

    def extent(self, node: Node) -> Value:
        return self.code.i64(self.frame.size(node.attrs[0]))  # type: ignore[arg-type]

    def value(self, node: Node) -> Value:
        return self.point.values[node.attrs[0]]  # type: ignore[index]

    def _store(self, slot: int, strides: Sequence[Size], value: Value, dtype: str) -> None:
        code = self.code
        offset, step = self._offset(strides, DTYPES[dtype].size)
        pointer = code.at(self.frame.slots[slot], offset)
        if dtype == "bool":
            value = code.b.zext(value, vector(I8) if is_vector(value) else I8)
        if self.point.lane is None or self.point.lane >= len(strides):
            code.store(value, pointer)
            return
        value = code.splat(value)
        if isinstance(step, int) and step == DTYPES[dtype].size:
            code.masked_store(value, pointer, self.point.mask)
        else:
            code.scatter(value, pointer, self._lanes_at(step), self.point.mask)


_LEAVES: Mapping[str, Callable[[BodyEmitter, Node], Value]] = {
    "load": BodyEmitter.load,
    "gather": BodyEmitter.gather,
    "index": BodyEmitter.index,
    "const": BodyEmitter.const,
    "param": BodyEmitter.param,
    "extent": BodyEmitter.extent,
    "value": BodyEmitter.value,
}
LEAVES = tuple(_LEAVES)


def lane_loop(
    frame: Frame, extent: Value | int, start: Value | int, emit: Callable[[Value, Value | None], None]
) -> None:
    """`emit(first index, mask)` for every vector of [start, extent): full vectors without a mask, then the rest."""
    code = frame.code
    if isinstance(extent, int) and isinstance(start, int):
        full: Value | int = start + (extent - start) // LANES * LANES
    else:
        length = code.i64(code.sub(extent, start))
        full = code.add(start, code.b.and_(length, code.i64(-LANES)))
    if not (isinstance(full, int) and full == start):
        with code.loop(start, full, LANES) as i:
            emit(i, None)
    rest = code.sub(extent, full)
    if isinstance(rest, int):
        if rest > 0:
            emit(code.i64(full), code.lanes_below(rest))
    else:
        with code.when(code.less(0, rest)):
            emit(code.i64(full), code.lanes_below(rest))


def emit_pointwise(frame: Frame, kernel: Pointwise) -> None:
    """The whole kernel: `rows` rows of the outer dims by one chunk of the last."""
    code, outer = frame.code, kernel.sizes[:-1]
    width = frame.size(kernel.sizes[-1])
    chunks = code.div(code.add(width, kernel.chunk - 1), kernel.chunk)
    block, chunk = code.div(frame.unit, chunks), code.rem(frame.unit, chunks)
    first = code.mul(block, kernel.rows)
    total: Value | int = 1
    for size in outer:
        total = code.mul(total, frame.size(size))
    start = code.mul(chunk, kernel.chunk)
    one_chunk = isinstance(width, int) and width <= kernel.chunk
    begin = 0 if one_chunk else start
    end = width if one_chunk else code.minimum(width, code.add(start, kernel.chunk))
    with code.loop(first, code.minimum(total, code.add(first, kernel.rows))) as row:
        outer_index = frame.split(row, outer)

        def at(i: Value, mask: Value | None) -> None:
            point = Point([*outer_index, i], len(outer), mask)
            BodyEmitter(frame, kernel.body, point).stores()

        lane_loop(frame, end, begin, at)
    code.ret()


# Operations: (code, dtype of the operands, dtype of the result, *operands) -> result

Operation = Callable[..., Value]


def _nonzero(code: Code, value: Value) -> Value:
    return code.b.icmp_signed("!=", value, code.constant(value.type, 0))


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


def _extreme(symbol: str) -> Operation:
    def emit(code: Code, operand: str, result: str, a: Value, b: Value) -> Value:
        if not _is_float(operand):
            return code.b.select(_compare(symbol)(code, operand, "bool", a, b), a, b)
        # One max instruction keeps the second operand when either is NaN; `b` is then checked by itself.
        best = code.b.select(code.b.fcmp_ordered(symbol, b, a), b, a)
        return code.b.select(code.b.fcmp_unordered("uno", b, b), b, best)

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


def _dequantize(code: Code, operand: str, result: str, q: Value, scale: Value, zero: Value) -> Value:
    return code.b.fmul(code.b.fsub(_cast(code, operand, "f32", q), zero), scale)


def _function(emit: Callable[..., Value]) -> Operation:
    return lambda code, operand, result, *arguments: emit(code, *arguments)


OPERATIONS: Mapping[str, Operation] = {
    "add": _add,
    "sub": _arithmetic("fsub", "sub"),
    "mul": _arithmetic("fmul", "mul"),
    "div": _arithmetic("fdiv", "fdiv"),  # integers have no division here: a zero would trap
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
    "dequantize": _dequantize,
    **DIVISION,
    **{name: _function(emit) for name, emit in {**FLOAT32_FUNCTIONS, **FLOAT32_POWERS}.items()},
}
"""Every scalar operation a body may name. Floats are never contracted or reordered: results are those of the graph."""
