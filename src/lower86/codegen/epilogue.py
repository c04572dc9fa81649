"""What a contraction does with a tile's sums: its body, row by row, straight from registers or from a buffer.

A body of a few simple operations is part of each tile's function, so that the sums need not leave their registers: 24
stores of 64 bytes cost as much as 5 words of k. Larger ones are one function, the same for all tile heights, that reads
the sums from a small buffer in the first cache level: a sixth of the code to compile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..program.kernels import TILE_COLUMNS, Contraction
from .builder import F32, I32, I64, LANES, PTR, Code, Type, Value, vector
from .frame import Frame
from .packed import store_neighbours
from .pointwise import BodyEmitter, Point, steady_nodes
from .tile import ROW_WORDS, is_spaced

VECTORS = TILE_COLUMNS // LANES
_SIMPLE = frozenset(
    ("value", "load", "const", "param", "fma", "add", "sub", "mul", "max", "min", "neg", "abs", "cast", "select",
     "lt", "le", "gt", "ge", "quantize", "quantize_bounded", "dequantize")
)  # fmt: skip
_MOST_NODES = 24


def stays_in_registers(kernel: Contraction, isa_is_wide: bool) -> bool:
    """Whether tiles compute the body themselves."""
    nodes = kernel.body.nodes
    small = len(nodes) <= _MOST_NODES and all(node.op in _SIMPLE for node in nodes)
    return isa_is_wide and small and not kernel.wide


def sum_type(kernel: Contraction) -> Type:
    """What the accumulators hand to the body."""
    if kernel.is_float:
        return F32
    return I64 if kernel.wide else I32


def entry_bytes(kernel: Contraction) -> int:
    """Bytes of a row's entry in a tile's table: where its left elements begin, and its coordinates."""
    return ROW_WORDS + 8 * len(kernel.m)


class Rows:
    """The body on rows of one tile: `vectors` vectors of 16 columns from `column`, of which `columns` are left."""

    def __init__(
        self,
        frame: Frame,
        kernel: Contraction,
        batch: Sequence[Value | int],
        entries: Value,
        row: Value | int,
        column: Value | int,
        columns: Value | int,
        *,
        vectors: int,
        masked: bool,
    ) -> None:
        self._frame, self._kernel, self._batch, self._entries, self._row = frame, kernel, batch, entries, row
        code = frame.code
        self._starts = [code.add(column, LANES * j) for j in range(vectors)]
        # Only the last vector of a panel can be cut, except where n is not known: then any can.
        known = kernel.n if isinstance(kernel.n, int) else None
        whole = vectors * LANES
        self._width = None if known is None else min(whole, known % TILE_COLUMNS) if masked else whole
        self._masks = [
            code.lanes_below(code.sub(columns, LANES * j)) if masked and (known is None or j == vectors - 1) else None
            for j in range(vectors)
        ]
        self._lane = len(kernel.batch) + len(kernel.m)
        wanted = {node.dtype for node in kernel.body.nodes if node.op == "value"}
        self._as_float = not kernel.is_float and wanted == {"f32"}

    def steady(self) -> list[Mapping[int, Value]]:
        """For each vector, the nodes that are the same in all rows."""
        nodes = steady_nodes(self._kernel.body, self._lane)
        anywhere = [self._row] * len(self._kernel.m)
        found: list[Mapping[int, Value]] = []
        for start, mask in zip(self._starts, self._masks, strict=True):
            point = Point([*self._batch, *anywhere, start], self._lane, mask, {})
            emitter = BodyEmitter(self._frame, self._kernel.body, point)
            found.append({position: emitter.node(position) for position in nodes})
        return found

    def store(self, r: Value | int, sums: Sequence[Value], known: Sequence[Mapping[int, Value]] | None = None) -> None:
        """Row `r` of the tile, of these sums; `known`: what `steady` gave."""
        code, kernel = self._frame.code, self._kernel
        index = [code.add(self._row, r)]
        if not is_spaced(kernel):
            place = code.add(kernel.tile_rows * ROW_WORDS, code.mul(r, 8 * len(kernel.m)))
            at = code.at(self._entries, place)
            index = [code.load(I64, code.at(at, 8 * i), align=8) for i in range(len(kernel.m))]
        emitters = []
        for j, (total, start, mask) in enumerate(zip(sums, self._starts, self._masks, strict=True)):
            value = code.b.sitofp(total, vector(F32)) if self._as_float else total
            point = Point([*self._batch, *index, start], self._lane, mask, {0: value})
            emitters.append(BodyEmitter(self._frame, kernel.body, point, known[j] if known else None))
        store_neighbours(emitters, self._width)


def emit_epilogue(frame: Frame, kernel: Contraction, vectors: int, masked: bool) -> Value:
    """`void(table, scratch, entries, row, height, column, columns left, batch…)`: the body on every row of the tile."""
    code: Code = frame.code
    entries, row, height, column, columns, *batch = frame.arguments
    rows = Rows(frame, kernel, batch, entries, row, column, columns, vectors=vectors, masked=masked)
    known, size = rows.steady(), 8 if kernel.wide else 4
    with code.loop(0, height) as r:
        of_row = code.at(frame.unit, code.mul(r, TILE_COLUMNS * size))
        places = [code.at(of_row, j * LANES * size) for j in range(vectors)]
        rows.store(r, [code.load(vector(sum_type(kernel)), place, align=64) for place in places], known)
    code.ret()
    return code.function


def epilogue_arguments(kernel: Contraction) -> list[Type]:
    """The types of the arguments of `emit_epilogue`'s function behind the table."""
    return [PTR, PTR, I64, I64, I64, I64, *(I64 for _ in kernel.batch)]
