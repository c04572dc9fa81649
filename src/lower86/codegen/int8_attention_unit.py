"""A unit of attention on integers: its memory, its register tiles, and how its code walks vectors of queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..program.body import Body
from ..program.kernels import ATTENTION_PARAMS, TILE_ROWS, Attention, Contraction, IntegerProducts, Left, Right
from ..program.sizes import Size, dim_atom
from .attention import unit_of
from .builder import I8, I64, LANES, Value
from .frame import Frame
from .tile import emit_tile

_KEYS = 2048
"""Keys whose scores a unit holds at most."""
_STACK_BYTES = 400 << 10
"""A unit's memory, which is on the stack: threads may have one of 512 KB."""
COLUMNS = 32
"""Queries handled at once: with more, scores and weights of 128 keys would fall out of the first cache level."""
VECTORS = COLUMNS // LANES
LINE = COLUMNS * 4  # bytes of a row of scores or results
_SOME = dim_atom("some")  # a size that a tile is given


@dataclass(frozen=True)
class Buffers:
    """A unit's own memory.

    queries: [d/word][32][word] s8; start: 32 i32 that scores begin with; scores: [key][32] f32, with a tile's rows
    more; weights: [key/word][32][word] s8; values: [key/word][`dims`][word] u8, the dim after the last all ones;
    value_sums: an i32 a dim; key_sums: one a key; sums: [dim][32] i32; out: the same, of all keys, which are those of
    `sums` if a unit holds all keys; top, total, scale: 32 f32.
    """

    queries: Value
    start: Value
    scores: Value
    weights: Value
    values: Value
    value_sums: Value
    key_sums: Value
    sums: Value
    out: Value
    top: Value
    total: Value
    scale: Value
    entries: Value
    zeros: Value
    dims: int


class UnitCode:
    """What all parts share: the unit, its memory, the tiles by how many vectors of queries they take, the params."""

    def __init__(self, frame: Frame, kernel: Attention, integers: IntegerProducts) -> None:
        self.frame, self.kernel, self.integers, self.code = frame, kernel, integers, frame.code
        self.isa, self.unit = frame.code.module.isa, unit_of(frame, kernel)
        self.groups = -(-(kernel.value_dim + 1) // TILE_ROWS)
        self.value_rows = max(self.groups * TILE_ROWS, -(-kernel.value_dim // LANES) * LANES)
        keys = kernel.keys if isinstance(kernel.keys, int) and kernel.keys else _KEYS + 1
        most = min(_KEYS, self._most_keys())
        self.keys_held = min(most, -(-keys // LANES) * LANES)
        self.is_one_round = keys <= most
        self.holds_some = self.code.less(self.keys_held, self.unit.end)
        self.holds_all = self.code.b.not_(self.holds_some)
        self.buffers = self._memory()
        self._tiles: dict[tuple[str, int], Value] = {}

    def _most_keys(self) -> int:
        """As many as fit the stack beside results of this size."""
        a_key = LINE + COLUMNS + self.value_rows + 4
        rest = 2 * self.value_rows * LINE + self.kernel.head_dim * COLUMNS + 16 * LINE
        return (_STACK_BYTES - rest) // a_key // LANES * LANES

    def _memory(self) -> Buffers:
        code, kernel, held, rows = self.code, self.kernel, self.keys_held, self.value_rows
        words = -(-kernel.head_dim // self.isa.word)

        def bytes_of(count: int) -> Value:
            return code.stack(I8, count)

        sums = out = bytes_of(rows * LINE)
        if not self.is_one_round:
            out = code.b.select(self.holds_all, sums, bytes_of(rows * LINE))
        return Buffers(
            queries=bytes_of(words * self.isa.word * COLUMNS), start=bytes_of(LINE),
            scores=bytes_of((held + TILE_ROWS) * LINE), weights=bytes_of(held * COLUMNS),
            values=bytes_of(held * rows), value_sums=bytes_of(4 * rows), key_sums=bytes_of(4 * held + 64), sums=sums,
            out=out, top=bytes_of(LINE), total=bytes_of(LINE),
            scale=bytes_of(LINE), entries=code.stack(I64, TILE_ROWS), zeros=bytes_of(LINE), dims=rows,
        )  # fmt: skip

    def param(self, name: str) -> Value:
        kind = "f32" if name.endswith("scale") else "i32"
        return self.frame.param(ATTENTION_PARAMS.index(name), kind)

    def tile(self, product: str, vectors: int) -> Value:
        """The function of a register tile of six rows."""
        if (product, vectors) not in self._tiles:
            m: tuple[Size, ...]
            if product == "scores":
                kind, m = "u8s8" if self.integers.key == "u8" else "s8s8", (TILE_ROWS, 1)
                strides: tuple[Size, ...] = (0, 0)
                k: tuple[Size, ...] = (self.kernel.head_dim,)
                inner: tuple[Size, ...] = (1,)
            else:
                word = self.isa.word
                kind, m, strides = "u8s8", (TILE_ROWS,), (word,)
                k, inner = (_SOME, word), (word * self.buffers.dims, 1)
            left, right = Left(0, (), strides, inner), Right(0, (), packed=True)
            shape = Contraction(kind, (), m, COLUMNS, k, left, right, 0, 0, Body(), 1)
            self._tiles[product, vectors] = emit_tile(
                self.code.module, shape, TILE_ROWS, vectors, False, product, COLUMNS
            )
        return self._tiles[product, vectors]

    def for_vectors(self, emit: Callable[[list[Value | int]], None]) -> None:
        """`emit(vectors)` for all vectors of queries there are: all at once, or where some are missing, each."""
        code, queries = self.code, self.kernel.queries
        if isinstance(queries, int) and (queries - 1) % COLUMNS >= COLUMNS - LANES:
            emit(list(range(VECTORS)))
            return
        vectors = code.div(code.add(self.unit.count, LANES - 1), LANES)
        with code.b.if_else(code.less(vectors, VECTORS)) as (some, every):
            with some, code.loop(0, vectors) as j:
                emit([j])
            with every:
                emit(list(range(VECTORS)))

    def for_portions(self, vectors: list[Value | int], run: Callable[[Value | int, int], None]) -> None:
        """`run(first vector, how many)` for as many as the registers hold the sums of."""
        portion = min(self.isa.vectors, len(vectors))
        for first in range(0, len(vectors), portion):
            run(vectors[first], portion)

    def call_tile(self, product: str, vectors: int, places: list[Value], numbers: list[Value | int]) -> None:
        """Calls a tile with `left, right, start, sums`; it may fetch the right operand ahead, which is there."""
        left, right, start, sums = places
        code = self.code
        arguments = [left, right, right, start, sums, code.i64(COLUMNS), *map(code.i64, numbers)]
        code.call(self.tile(product, vectors), arguments)
