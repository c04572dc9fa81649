"""Rows: softmax, layer norm, sums. Reductions one after another, each free to use the earlier results, then stores.

Two ways to lay lanes, one code. Along the reduced dim, each lane sums every 16th element and a fixed tree joins the
lanes. Along a kept dim (`vertical`), 16 rows are reduced side by side. Either way the order of additions depends on the
shape alone, never on the CPU or the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..program.kernels import Rows
from .builder import ELEMENT, Code, Value, vector
from .frame import Frame
from .pointwise import OPERATIONS, BodyEmitter, Point, lane_loop


@dataclass(frozen=True)
class Combine:
    """How two partial results join (an operation's name), and what joins with anything without changing it."""

    operation: str
    identity: Mapping[str, float]


_INF = float("inf")
REDUCTIONS: Mapping[str, Combine] = {
    "sum": Combine("add", {"f32": 0.0, "i64": 0}),
    "prod": Combine("mul", {"f32": 1.0, "i64": 1}),
    "max": Combine("max", {"f32": -_INF, "i64": -(2**63)}),
    "min": Combine("min", {"f32": _INF, "i64": 2**63 - 1}),
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


def _join(code: Code, kind: str, dtype: str) -> Callable[[Value, Value], Value]:
    operation = OPERATIONS[REDUCTIONS[kind].operation]
    return lambda a, b: operation(code, dtype, dtype, a, b)


def _reduced_loops(frame: Frame, kernel: Rows, count: int, stack: ExitStack) -> list[Value]:
    return [stack.enter_context(frame.code.loop(0, frame.size(size))) for size in kernel.reduced[:count]]


def _per_row_stores(frame: Frame, kernel: Rows, point: Point) -> None:
    BodyEmitter(frame, kernel.body, point).stores(len(kernel.kept))


def _vertical(frame: Frame, kernel: Rows, kept: Sequence[Value | int], mask: Value | None) -> None:
    code, lane = frame.code, len(kernel.kept) - 1
    values: dict[int, Value] = {}
    for number, reduction in enumerate(kernel.reductions):
        dtype = kernel.body.nodes[reduction.node].dtype
        start = code.constant(vector(ELEMENT[dtype]), REDUCTIONS[reduction.kind].identity[dtype])
        total = code.variable(start)
        with ExitStack() as stack:
            inner = _reduced_loops(frame, kernel, len(kernel.reduced), stack)
            emitter = BodyEmitter(frame, kernel.body, Point([*kept, *inner], lane, mask, values))
            total.set(_join(code, reduction.kind, dtype)(total.get(), code.splat(emitter.node(reduction.node))))
        values[number] = total.get()
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
        dtype = kernel.body.nodes[reduction.node].dtype
        identity = code.constant(vector(ELEMENT[dtype]), REDUCTIONS[reduction.kind].identity[dtype])
        join = _join(code, reduction.kind, dtype)
        total = code.variable(identity)
        with ExitStack() as stack:
            outer = _reduced_loops(frame, kernel, len(kernel.reduced) - 1, stack)

            def add(
                i: Value,
                mask: Value | None,
                outer: Sequence[Value] = outer,
                node: int = reduction.node,
                identity: Value = identity,
                total: object = total,
                join: Callable[[Value, Value], Value] = join,
            ) -> None:
                emitter = BodyEmitter(frame, kernel.body, Point([*kept, *outer, i], lane, mask, values))
                value = code.splat(emitter.node(node))
                if mask is not None:
                    value = code.b.select(mask, value, identity)
                total.set(join(total.get(), value))  # type: ignore[attr-defined]

            lane_loop(frame, extent, 0, add)
        values[number] = code.halves(total.get(), join)
    _per_row_stores(frame, kernel, Point(kept, None, None, values))
    dims = lane + 1
    if any(len(store.strides) == dims for store in kernel.body.stores):
        with ExitStack() as stack:
            outer = _reduced_loops(frame, kernel, len(kernel.reduced) - 1, stack)

            def write(i: Value, mask: Value | None) -> None:
                point = Point([*kept, *outer, i], lane, mask, values)
                BodyEmitter(frame, kernel.body, point).stores(dims)

            lane_loop(frame, extent, 0, write)
