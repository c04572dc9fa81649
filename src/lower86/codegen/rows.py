"""Rows: softmax, layer norm, sums. Reductions one after another, each free to use the earlier results, then stores.

Two ways to lay lanes, one code. Along the reduced dim, each lane sums every 16th element and a fixed tree joins the
lanes. Along a kept dim (`vertical`), 16 rows are reduced side by side. Either way the order of additions depends on the
shape alone, never on the CPU or the number of threads. Long sums are taken in float64: in float32, hundreds of
additions one after another lose a digit that PyTorch, which adds in pairs, does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..program.kernels import Reduction, Rows
from ..program.sizes import ceil_div, product
from .builder import ELEMENT, LANES, Code, Value, vector
from .frame import Frame
from .operations import OPERATIONS
from .pointwise import BodyEmitter, Point, lane_loop


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
    row_sizes = kernel.kept[:-1] if kernel.vertical else kernel.kept
    total: Value | int = 1
    for size in row_sizes:
        total = code.mul(total, frame.size(size))
    first = code.mul(frame.unit, kernel.rows)
    with code.loop(first, code.minimum(total, code.add(first, kernel.rows))) as row:
        kept = frame.split(row, row_sizes)
        if kernel.vertical:
            lane_loop(
                frame,
                frame.size(kernel.kept[-1]),
                0,
                lambda i, mask: _vertical(frame, kernel, [*kept, i], mask),
            )
        else:
            _horizontal(frame, kernel, kept)
    code.ret()


def _is_long(kernel: Rows) -> bool:
    """Whether a lane takes in more than `_SHORT` elements, or might."""
    *outer, last = kernel.reduced
    count = product([*outer, last if kernel.vertical else ceil_div(last, LANES)])
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
        self._total = code.variable(self._identity)

    def join(self, a: Value, b: Value) -> Value:
        return self._operation(self.code, self.partial, self.partial, a, b)

    def add(self, element: Value, mask: Value | None) -> None:
        """Takes in an element a lane, but for lanes where `mask` is 0."""
        value = self.code.splat(OPERATIONS["cast"](self.code, self.dtype, self.partial, element))
        if mask is not None:
            value = self.code.b.select(mask, value, self._identity)
        self._total.set(self.join(self._total.get(), value))

    def lanes(self) -> Value:
        """Each lane's result."""
        return OPERATIONS["cast"](self.code, self.partial, self.dtype, self._total.get())

    def joined(self) -> Value:
        """The result of all lanes together."""
        total = self.code.halves(self._total.get(), self.join)
        return OPERATIONS["cast"](self.code, self.partial, self.dtype, total)


def _reduced_loops(frame: Frame, kernel: Rows, count: int, stack: ExitStack) -> list[Value]:
    return [stack.enter_context(frame.code.loop(0, frame.size(size))) for size in kernel.reduced[:count]]


def _per_row_stores(frame: Frame, kernel: Rows, point: Point) -> None:
    BodyEmitter(frame, kernel.body, point).stores(len(kernel.kept))


def _vertical(frame: Frame, kernel: Rows, kept: Sequence[Value | int], mask: Value | None) -> None:
    code, lane = frame.code, len(kernel.kept) - 1
    values: dict[int, Value] = {}
    for number, reduction in enumerate(kernel.reductions):
        total = _Total(code, kernel, reduction)
        with ExitStack() as stack:
            inner = _reduced_loops(frame, kernel, len(kernel.reduced), stack)
            emitter = BodyEmitter(frame, kernel.body, Point([*kept, *inner], lane, mask, values))
            total.add(emitter.node(reduction.node), None)
        values[number] = total.lanes()
    _per_row_stores(frame, kernel, Point(kept, lane, mask, values))
    dims = len(kernel.kept) + len(kernel.reduced)
    if any(len(store.strides) == dims for store in kernel.body.stores):
        with ExitStack() as stack:
            inner = _reduced_loops(frame, kernel, len(kernel.reduced), stack)
            BodyEmitter(frame, kernel.body, Point([*kept, *inner], lane, mask, values)).stores(dims)


def _horizontal(frame: Frame, kernel: Rows, kept: Sequence[Value | int]) -> None:
    code = frame.code
    lane = len(kernel.kept) + len(kernel.reduced) - 1
    extent = frame.size(kernel.reduced[-1])
    values: dict[int, Value] = {}
    for number, reduction in enumerate(kernel.reductions):
        total = _Total(code, kernel, reduction)
        with ExitStack() as stack:
            outer = _reduced_loops(frame, kernel, len(kernel.reduced) - 1, stack)

            def add(i: Value, mask: Value | None, outer: Sequence[Value] = outer, total: _Total = total) -> None:
                emitter = BodyEmitter(frame, kernel.body, Point([*kept, *outer, i], lane, mask, values))
                total.add(emitter.node(total.node), mask)

            lane_loop(frame, extent, 0, add)
        values[number] = total.joined()
    _per_row_stores(frame, kernel, Point(kept, None, None, values))
    dims = lane + 1
    if any(len(store.strides) == dims for store in kernel.body.stores):
        with ExitStack() as stack:
            outer = _reduced_loops(frame, kernel, len(kernel.reduced) - 1, stack)

            def write(i: Value, mask: Value | None) -> None:
                point = Point([*kept, *outer, i], lane, mask, values)
                BodyEmitter(frame, kernel.body, point).stores(dims)

            lane_loop(frame, extent, 0, write)
