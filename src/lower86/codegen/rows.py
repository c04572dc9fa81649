"""Rows: softmax, layer norm, sums. Reductions one after another, each free to use the earlier results, then stores.

Two ways to lay lanes, one code. Along the reduced dim, there are four totals of 16 lanes, so that an addition need not
wait for the one before; of every 64 elements a lane of each total takes one in, and a fixed tree joins totals and
lanes. Along a kept dim (`vertical`), 16 rows are reduced side by side. Either way the order of additions depends on the
shape alone, never on the CPU or the number of threads. Long sums are taken in float64: in float32, hundreds of
additions one after another lose a digit that PyTorch, which adds in pairs, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..program.dtypes import DTYPES, computed
from ..program.kernels import Reduction, Rows
from ..program.sizes import ceil_div, product
from .builder import ELEMENT, LANES, Code, Value, vector
from .frame import Frame
from .operations import OPERATIONS
from .pointwise import BodyEmitter, Point, lane_loop
from .row_passes import Pass, passes_of, row_elements


@dataclass(frozen=True)
class Combine:
    """How two partial results join (an operation's name), and what joins with anything without changing it.

    `long`: the dtype that holds them where there are many elements, if not that of the elements.
    """

    operation: str
    identity: Mapping[str, float]
    long: Mapping[str, str] = field(default_factory=dict)


_INF = float("inf")
_SHORT = 32
"""How many float32 numbers a lane may add and stay well within the 4 ulp of the numerics contract."""
_TOTALS = 4
_BLOCK = _TOTALS * LANES
REDUCTIONS: Mapping[str, Combine] = {
    "sum": Combine("add", {"f32": 0.0, "f64": 0.0, "i64": 0}, {"f32": "f64"}),
    "prod": Combine("mul", {"f32": 1.0, "f64": 1.0, "i64": 1}, {"f32": "f64"}),
    "max": Combine("max", {"f32": -_INF, "f64": -_INF, "i64": -(2**63), "i32": -(2**31), "i8": -128, "u8": 0}),
    "min": Combine("min", {"f32": _INF, "f64": _INF, "i64": 2**63 - 1, "i32": 2**31 - 1, "i8": 127, "u8": 255}),
    "any": Combine("or", {"bool": 0}),
    "all": Combine("and", {"bool": 1}),
}


def emit_rows(frame: Frame, kernel: Rows) -> None:
    """The whole kernel."""
    code = frame.code
    row = _Row(frame, kernel)
    row_sizes = kernel.kept[:-1] if kernel.vertical else kernel.kept
    total: Value | int = 1
    for size in row_sizes:
        total = code.mul(total, frame.size(size))
    first = code.mul(frame.unit, kernel.rows)
    with code.loop(first, code.minimum(total, code.add(first, kernel.rows))) as number:
        kept = frame.split(number, row_sizes)
        if kernel.vertical:
            _emit_columns(frame, kernel, row, kept)
        else:
            row.emit([(kept, None)])
    code.ret()


def _emit_columns(frame: Frame, kernel: Rows, row: _Row, kept: Sequence[Value]) -> None:
    """The rows side by side along the last kept dim: from the lanes of several vectors, where their elements are so
    little work that walking to them takes as long, and then from those of one.
    """
    code, extent = frame.code, frame.size(kernel.kept[-1])
    first: Value | int = 0
    # What a pass writes down has room for the lanes of one vector.
    simple = len(kernel.reductions) == 1 and not any(this.saved for this in row.passes)
    if simple and all(node.op in _LITTLE for node in kernel.body.nodes):
        together = _TOTALS if code.module.isa.wide else _TOTALS // 2
        first = code.mul(code.div(extent, together * LANES), together * LANES)
        if not (isinstance(first, int) and first == 0):
            with code.loop(0, first, together * LANES) as i:
                row.emit([([*kept, code.add(i, number * LANES)], None) for number in range(together)])
    lane_loop(frame, extent, first, lambda i, mask: row.emit([([*kept, i], mask)]))


_LITTLE = frozenset(("load", "cast", "const", "param", "value", "add", "sub", "mul"))


def _is_long(kernel: Rows) -> bool:
    """Whether a lane takes in more than `_SHORT` elements, or might."""
    *outer, last = kernel.reduced
    if not isinstance(last, int):
        return True
    # Of what is left of 64 elements, the first total takes in all.
    longest = last if kernel.vertical else last // _BLOCK + ceil_div(last % _BLOCK, LANES)
    count = product([*outer, longest])
    return not isinstance(count, int) or count > _SHORT


class _Total:
    """The partial results of one reduction, a lane each, while its loops run."""

    def __init__(self, code: Code, kernel: Rows, reduction: Reduction) -> None:
        self.code, self.node = code, reduction.node
        self.dtype = kernel.body.nodes[reduction.node].dtype
        combine = REDUCTIONS[reduction.kind]
        self.partial = combine.long.get(self.dtype, self.dtype) if _is_long(kernel) else self.dtype
        self._operation = OPERATIONS[combine.operation]
        self._identity = code.constant(vector(ELEMENT[self.partial]), combine.identity[self.dtype])
        *_, last = kernel.reduced
        many = not kernel.vertical and not (isinstance(last, int) and last < _BLOCK)
        self._totals = [code.variable(self._identity) for _ in range(_TOTALS if many else 1)]

    def join(self, a: Value, b: Value) -> Value:
        return self._operation(self.code, self.partial, self.partial, a, b)

    def add(self, element: Value, mask: Value | None, number: int) -> None:
        """Takes in an element a lane, but for lanes where `mask` is 0, in one of the totals."""
        value = self.code.splat(OPERATIONS["cast"](self.code, self.dtype, self.partial, element))
        if mask is not None:
            value = self.code.b.select(mask, value, self._identity)
        total = self._totals[number]
        total.set(self.join(total.get(), value))

    def lanes(self) -> Value:
        """Each lane's result."""
        return OPERATIONS["cast"](self.code, self.partial, self.dtype, self._all())

    def _all(self) -> Value:
        totals = [total.get() for total in self._totals]
        while len(totals) > 1:
            totals = [self.join(a, b) for a, b in zip(totals[::2], totals[1::2], strict=True)]
        return totals[0]

    def joined(self) -> Value:
        """The result of all lanes together."""
        total = self.code.halves(self._all(), self.join)
        return OPERATIONS["cast"](self.code, self.partial, self.dtype, total)


class _Row:
    """One row, or with lanes along a kept dim 16 of them or more: their passes one after another."""

    def __init__(self, frame: Frame, kernel: Rows) -> None:
        self.frame, self.kernel, self.passes = frame, kernel, passes_of(kernel)
        self.kept, self.dims = len(kernel.kept), len(kernel.kept) + len(kernel.reduced)
        self.lane = self.kept - 1 if kernel.vertical else self.dims - 1
        saved = [position for this in self.passes for position in this.saved]
        self._written = {position: self._memory(position) for position in saved}

    def _memory(self, position: int) -> Value:
        """Where a row of the node's elements is written down."""
        return self.frame.code.stack(ELEMENT[self.kernel.body.nodes[position].dtype], row_elements(self.kernel))

    def emit(self, rows: Sequence[tuple[Sequence[Value | int], Value | None]]) -> None:
        """The rows at each of these places, or the rows there that its mask tells, all of them side by side."""
        together = [_Emission(self, kept, mask) for kept, mask in rows]
        stored = False
        for this in self.passes:
            if not this.reductions:
                for one in together:
                    one.once.stores(self.kept)
                stored = True
            for one in together:
                one.begin(this)

            def visit(inner: Sequence[Value | int], rest: Value | None, number: int, this: Pass = this) -> None:
                for one in together:
                    one.visit(this, inner, rest, number)

            self._walk(visit, _TOTALS if this.reductions else 1)
            for one in together:
                one.end()
        if not stored:
            for one in together:
                one.once.stores(self.kept)

    def _walk(self, visit: Callable[[Sequence[Value | int], Value | None, int], None], side_by_side: int) -> None:
        """`visit(index, mask, number)` with every index into the reduced dims.

        Those along the lanes are taken in whole vectors, so many of them side by side, and a masked rest.
        """
        reduced = [self.frame.size(size) for size in self.kernel.reduced]
        outer = reduced if self.kernel.vertical else reduced[:-1]
        with ExitStack() as stack:
            inner = [stack.enter_context(self.frame.code.loop(0, size)) for size in outer]
            if self.kernel.vertical:
                visit(inner, None, 0)
                return
            code, extent = self.frame.code, reduced[-1]
            first: Value | int = 0
            if side_by_side > 1:
                first = code.mul(code.div(extent, side_by_side * LANES), side_by_side * LANES)
            if not (isinstance(first, int) and first == 0):
                with code.loop(0, first, side_by_side * LANES) as i:
                    for number in range(side_by_side):
                        visit([*inner, code.add(i, number * LANES)], None, number)
            lane_loop(self.frame, extent, first, lambda i, mask: visit([*inner, i], mask, 0))

    def result(self, total: _Total) -> Value:
        return total.lanes() if self.kernel.vertical else total.joined()

    def place(self, position: int, inner: Sequence[Value | int]) -> Value:
        """Where the vector of a node's elements at this index is written down."""
        code, (*outer, last) = self.frame.code, self.kernel.reduced
        *before, lane = inner
        flat: Value | int = 0
        for size, index in zip(outer, before, strict=True):
            flat = code.add(code.mul(flat, self.frame.size(size)), index)
        if self.kernel.vertical:
            elements = code.mul(code.add(code.mul(flat, self.frame.size(last)), lane), LANES)
        else:
            elements = code.add(code.mul(flat, self.frame.size(ceil_div(last, LANES) * LANES)), lane)
        size = DTYPES[computed(self.kernel.body.nodes[position].dtype)].size  # as registers hold them
        return code.at(self._written[position], code.mul(elements, size))

    def load(self, position: int, inner: Sequence[Value | int]) -> Value:
        return self.frame.code.load(
            vector(ELEMENT[self.kernel.body.nodes[position].dtype]), self.place(position, inner)
        )


class _Emission:
    """A row, or 16 of them side by side, at a place: what is known of them in the pass that is being emitted."""

    def __init__(self, row: _Row, kept: Sequence[Value | int], mask: Value | None) -> None:
        self._row, self._kept, self._mask, self._values = row, kept, mask, dict[int, Value]()
        start = [*kept, *(0 for _ in row.kernel.reduced)]
        point = Point(start, row.lane if row.kernel.vertical else None, mask, self._values)
        self.once = BodyEmitter(row.frame, row.kernel.body, point)

    def begin(self, this: Pass) -> None:
        """What is the same in the whole pass, and totals of nothing."""
        row = self._row
        self._known = {position: self.once.node(position) for position in this.steady}
        self._totals = {
            number: _Total(row.frame.code, row.kernel, row.kernel.reductions[number]) for number in this.reductions
        }

    def visit(self, this: Pass, inner: Sequence[Value | int], rest: Value | None, number: int) -> None:
        """The elements at an index into the reduced dims, those of `rest` if given, into total `number`."""
        row, code = self._row, self._row.frame.code
        read = {position: row.load(position, inner) for position in this.read}
        mask = self._mask if row.kernel.vertical else rest
        point = Point([*self._kept, *inner], row.lane, mask, self._values)
        emitter = BodyEmitter(row.frame, row.kernel.body, point, {**self._known, **read})
        for total in self._totals.values():
            total.add(emitter.node(total.node), rest, number)
        for position in this.saved:
            code.store(code.splat(emitter.node(position)), row.place(position, inner))
        if not self._totals:
            emitter.stores(row.dims)

    def end(self) -> None:
        """The pass's results are known from now on."""
        self._values.update({number: self._row.result(total) for number, total in self._totals.items()})
