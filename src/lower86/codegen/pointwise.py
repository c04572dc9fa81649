"""Scalar bodies as code: each node once a point, on one element or on a vector of them.

A node that does not depend on the lane stays a scalar until an operation mixes it with one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..program.body import Body, Node, Store
from ..program.dtypes import DTYPES
from ..program.kernels import Pointwise
from ..program.sizes import Size, SizeExpr
from .builder import ELEMENT, I1, LANES, Value, is_vector
from .frame import Frame
from .operations import OPERATIONS
from .storage import from_memory, memory_type, to_memory


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
        # Operands first, in order, without recursion: a body may be a chain of thousands.
        waiting = [position]
        while waiting:
            latest = waiting[-1]
            missing = [a for a in self.body.nodes[latest].args if a not in self._done]
            if latest not in self._done and missing:
                waiting += reversed(missing)
                continue
            if latest not in self._done:
                self._done[latest] = self._emit(self.body.nodes[latest])
            waiting.pop()
        return self._done[position]

    def stores(self, dims: int | None = None) -> None:
        """Emits the body's stores; with `dims`, only those that have that many strides."""
        for store in self.body.stores:
            if dims is None or len(store.strides) == dims:
                self.store(store)

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
        offset, step = self._offset(node.strides, DTYPES[node.dtype].size)
        return self._read(node.dtype, self.code.at(self.frame.slots[node.number], offset), step, None)

    def _read(self, dtype: str, pointer: Value, step: Value | int, present: Value | None) -> Value:
        """The element at `pointer`, or the lanes from there on; 0 without reading if `present` is given and is 0."""
        element = memory_type(dtype)
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
        return from_memory(self.code, dtype, value)

    def _mask(self, present: Value | None) -> Value | None:
        """The point's mask, and no lane unless `present`."""
        if present is None:
            return self.point.mask
        every = self.code.splat(present)
        return every if self.point.mask is None else self.code.b.and_(every, self.point.mask)

    def _nonzero(self, value: Value) -> Value:
        return self.code.b.icmp_signed("!=", value, self.code.constant(value.type, 0))

    def gather(self, node: Node) -> Value:
        _, _, places, wraps = node.attrs
        assert isinstance(places, tuple)
        present = self._present([bound for _, bound in places])
        size = DTYPES[node.dtype].size
        offset, step = self._offset(node.strides, size)
        pointer = self.code.at(self.frame.slots[node.number], offset)
        extra: Value = self.code.i64(0)
        for argument, (stride, bound) in zip(node.args, places, strict=True):
            index = self._checked_index(self.node(argument), self.frame.size(bound), bool(wraps))
            scale = self.code.i64(self.code.mul(self.frame.size(stride), size))
            if is_vector(index) or is_vector(extra):
                index, scale, extra = (self.code.splat(v) for v in (index, scale, extra))
            extra = self.code.b.add(extra, self.code.b.mul(index, scale))
        if not is_vector(extra):
            return self._read(node.dtype, self.code.at(pointer, extra), step, present)
        element = memory_type(node.dtype)
        offsets = self.code.b.add(extra, self._lanes_at(step))
        value = self.code.gather(element, pointer, offsets, self._mask(present))
        return from_memory(self.code, node.dtype, value)

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
            seen = code.halves(worst, lambda a, b: code.b.select(self._nonzero(a), a, b))
        else:
            any_bad, seen = bad, index
        with code.when(any_bad, unlikely=True):
            self.frame.report_index(seen, bound)
        return code.b.select(bad, zero, wrapped)

    def checked(self, node: Node) -> Value:
        bound, wraps = node.attrs
        assert isinstance(bound, (int, SizeExpr))
        return self._checked_index(self.node(node.args[0]), self.frame.size(bound), bool(wraps))

    def index(self, node: Node) -> Value:
        start = self.code.i64(self.point.index[node.number])
        if node.number != self.point.lane:
            return start
        return self.code.b.add(self.code.splat(start), self.code.iota())

    def const(self, node: Node) -> Value:
        return self.code.constant(ELEMENT[node.dtype], node.constant)

    def param(self, node: Node) -> Value:
        return self.frame.param(node.number, node.dtype)

    def extent(self, node: Node) -> Value:
        return self.code.i64(self.frame.size(node.size))

    def value(self, node: Node) -> Value:
        return self.point.values[node.number]

    def place(self, store: Store) -> Value:
        """Where the store writes lane 0."""
        offset, _ = self._offset(store.strides, DTYPES[self.body.nodes[store.node].dtype].size)
        return self.code.at(self.frame.slots[store.slot], offset)

    def _computed_place(self, store: Store) -> tuple[Value, Value]:
        """Bytes that the store's computed indices add, and whether they are in range: for all lanes, or for each."""
        total: Value = self.code.i64(0)
        inside: Value = self.code.constant(I1, 1)
        size = DTYPES[self.body.nodes[store.node].dtype].size
        for node, stride, bound in store.places:
            index = self.node(node)
            scale = self.code.i64(self.code.mul(self.frame.size(stride), size))
            limit = self.code.i64(self.frame.size(bound))
            if is_vector(index) or is_vector(total):
                index, scale, limit, total, inside = map(self.code.splat, (index, scale, limit, total, inside))
            total = self.code.b.add(total, self.code.b.mul(index, scale))
            # A bound below 0 is one that no index is below, and not the largest number there is.
            zero = self.code.constant(index.type, 0)
            here = self.code.b.and_(
                self.code.b.icmp_signed(">=", index, zero), self.code.b.icmp_signed("<", index, limit)
            )
            inside = self.code.b.and_(inside, here)
        return total, inside

    def store(self, store: Store) -> None:
        """Emits one of the body's stores."""
        dtype = self.body.nodes[store.node].dtype
        value, pointer = to_memory(self.code, dtype, self.node(store.node)), self.place(store)
        if not store.places:
            self._write(store, value, pointer, None, self.point.mask)
            return
        apart, inside = self._computed_place(store)
        if is_vector(apart):
            mask = inside if self.point.mask is None else self.code.b.and_(inside, self.point.mask)
            self._write(store, value, pointer, apart, mask)
        else:
            with self.code.when(inside):
                self._write(store, value, self.code.at(pointer, apart), None, self.point.mask)

    def _write(self, store: Store, value: Value, pointer: Value, apart: Value | None, mask: Value | None) -> None:
        """Writes the lanes of `mask` from `pointer` on, or with `apart` that many bytes further each."""
        code, strides, size = self.code, store.strides, DTYPES[self.body.nodes[store.node].dtype].size
        _, step = self._offset(strides, size)
        if self.point.lane is None or self.point.lane >= len(strides):
            # All lanes have one place: the first one's value goes there, and not a vector beyond it.
            code.store(code.b.extract_element(value, code.i32(0)) if is_vector(value) else value, pointer)
            return
        value = code.splat(value)
        if apart is not None:
            code.scatter(value, pointer, code.b.add(apart, self._lanes_at(step)), mask)
        elif isinstance(step, int) and step == size:
            code.masked_store(value, pointer, mask)
        elif isinstance(step, int) and mask is None and size < 4:
            code.spread(value, pointer, step)
        else:
            code.scatter(value, pointer, self._lanes_at(step), mask)


_LEAVES: Mapping[str, Callable[[BodyEmitter, Node], Value]] = {
    "load": BodyEmitter.load,
    "gather": BodyEmitter.gather,
    "checked": BodyEmitter.checked,
    "index": BodyEmitter.index,
    "const": BodyEmitter.const,
    "param": BodyEmitter.param,
    "extent": BodyEmitter.extent,
    "value": BodyEmitter.value,
}


def steady_nodes(body: Body, lane: int) -> list[int]:
    """Nodes that depend on no index but the lane's: computed once for many rows, outside the loop over them.

    LLVM could not hoist them itself: for all it knows, the stores write where they are loaded from.
    """
    steady: set[int] = set()
    for position, node in enumerate(body.nodes):
        if node.op in ("const", "param"):
            steady.add(position)
        elif node.op == "load":
            if all(stride == 0 for dim, stride in enumerate(node.strides) if dim != lane):
                steady.add(position)
        elif node.op not in _LEAVES and all(a in steady for a in node.args):
            steady.add(position)
    return sorted(steady)


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
