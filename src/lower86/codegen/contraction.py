"""Contractions: register tiles shared out to threads, and the epilogue on their results.

The sums of a tile (`tile.py`) are where the kernel's body begins (`epilogue.py`).

Rows are shared out evenly: 128 rows are 22 tiles of 6 or 5, never 21 of 6 and one of 2. All units of a kernel have
equally many tiles, of a row less if need be, because threads that finish at different times wait for each other. Where
m is several dims, as in a convolution, each row of a tile has an entry in a table: where its left elements begin, and
its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..program.kernels import TILE_COLUMNS, Contraction
from ..program.sizes import product
from .builder import I64, LANES, PTR, Code, Value, vector
from .epilogue import VECTORS, Rows, emit_epilogue, entry_bytes, epilogue_arguments, stays_in_registers, sum_type
from .frame import Frame
from .tile import (
    LINE_BYTES,
    ROW_WORDS,
    Operands,
    element_bytes,
    emit_tile,
    is_spaced,
    k_of_word,
    number_count,
    tile_sums,
    word_bytes,
)  # fmt: skip


class _Tiles:
    """The functions of one contraction, made on first use: tiles by (height, vectors, masked), and epilogues."""

    def __init__(self, frame: Frame, kernel: Contraction) -> None:
        self.module, self.layout, self.kernel = frame.code.module, frame.layout, kernel
        self.in_registers = stays_in_registers(kernel, self.module.isa.wide)
        self._made: dict[tuple[object, ...], Value] = {}

    def tile(self, height: int, vectors: int, masked: bool) -> Value:
        """Fills a buffer with sums."""
        key = ("tile", height, vectors, masked)
        if key not in self._made:
            self._made[key] = emit_tile(self.module, self.kernel, height, vectors, masked)
        return self._made[key]

    def epilogue(self, vectors: int, masked: bool) -> Value:
        """Computes the body on the sums in a buffer."""
        key = ("epilogue", vectors, masked)
        if key not in self._made:
            name = f"epilogue_{vectors}{'_masked' if masked else ''}"
            frame = Frame(self.module, name, self.layout, *epilogue_arguments(self.kernel), internal=True)
            self._made[key] = emit_epilogue(frame, self.kernel, vectors, masked)
        return self._made[key]

    def whole(self, height: int, vectors: int, masked: bool) -> Value:
        """Computes sums and body: `void(table, left, right, ahead, start, row, column, columns, batch…, numbers…)`."""
        key = ("whole", height, vectors, masked)
        if key not in self._made:
            self._made[key] = self._emit_whole(height, vectors, masked)
        return self._made[key]

    def _emit_whole(self, height: int, vectors: int, masked: bool) -> Value:
        kernel, dims = self.kernel, len(self.kernel.batch)
        kinds = [*[PTR] * 4, *[I64] * (3 + dims + number_count(kernel))]
        name = f"tile_{height}x{vectors}{'_masked' if masked else ''}"
        frame = Frame(self.module, name, self.layout, *kinds, internal=True)
        code, left = frame.code, frame.unit
        right, ahead, start, row, column, columns, *rest = frame.arguments
        given = Operands(left, right, ahead, start, columns, rest[dims:])
        sums = tile_sums(code, kernel, given, height, vectors, masked)
        rows = Rows(frame, kernel, rest[:dims], left, row, column, columns, vectors=vectors, masked=masked)
        for r in range(height):
            rows.store(r, [total.get() for total in sums[r * vectors : (r + 1) * vectors]])
        code.ret()
        return code.function


def emit_contraction(frame: Frame, kernel: Contraction) -> None:
    """The whole kernel: one panel of columns by a block of tiles, for one point of the batch dims."""
    code = frame.code
    if product(kernel.m) == 0:
        code.ret()  # there are no units either, and no rows to share out
        return
    tiles = _Tiles(frame, kernel)
    m, n = frame.size(product(kernel.m)), frame.size(kernel.n)
    rows, blocks, count = kernel.tile_rows, frame.size(kernel.blocks), frame.size(kernel.tile_count)
    panels = code.div(code.add(n, TILE_COLUMNS - 1), TILE_COLUMNS)
    together = code.mul(panels, blocks)
    unit, rest = code.rem(frame.unit, together), code.div(frame.unit, together)
    panel, block = _panel_and_block(code, unit, panels, blocks, _is_below(code, m, kernel.columns_below))
    batch = frame.split(rest, kernel.batch)

    left, right = kernel.left, kernel.right
    size = element_bytes(kernel)
    left_at, right_at, start = _operands(frame, kernel, batch, panel)
    column = code.mul(panel, TILE_COLUMNS)
    scratch = code.stack(vector(sum_type(kernel)), 1 if tiles.in_registers else rows * VECTORS)
    entries = None if is_spaced(kernel) else code.stack(I64, rows * entry_bytes(kernel) // 8)
    share = frame.size(kernel.tiles)
    first = code.mul(block, share)
    with code.loop(first, code.minimum(count, code.add(first, share))) as t:
        row, end = (code.div(code.mul(tile, m), count) for tile in (t, code.add(t, 1)))
        height = code.sub(end, row)
        if entries is None:
            tile_left = code.at(left_at, code.mul(row, code.mul(frame.size(left.m[0]), size)))
        else:
            tile_left = entries
            _list_rows(frame, kernel, left_at, entries, row, height)

        ahead = _ahead(frame, kernel, right_at, tile_left, code.sub(t, first))
        numbers = [left.m[0] * size, right.k * size, *kernel.k, *(stride * size for stride in left.k)]
        strides = [code.i64(frame.size(number)) for number in numbers]
        place = _Place(tile_left, right_at, ahead, start, row, height, column, code.sub(n, column), batch, strides)
        run = partial(_in_registers, frame, tiles, place)
        if not tiles.in_registers:
            run = partial(_through_buffer, frame, tiles, place, scratch, entries or scratch)
        _by_width(code, kernel, panel, panels, run)
    code.ret()


def _is_below(code: Code, m: Value | int, bound: int) -> Value | bool:
    return m < bound if isinstance(m, int) else bound > 0 and code.less(m, bound)


def _panel_and_block(
    code: Code, unit: Value | int, panels: Value | int, blocks: Value | int, columns_first: Value | bool
) -> tuple[Value | int, Value | int]:
    """Which panel and which block of rows a unit is."""
    by_rows = code.rem(unit, panels), code.div(unit, panels)
    by_columns = code.div(unit, blocks), code.rem(unit, blocks)
    if isinstance(columns_first, bool):
        return by_columns if columns_first else by_rows
    panel, block = (
        code.b.select(columns_first, code.i64(one), code.i64(other))
        for one, other in zip(by_columns, by_rows, strict=True)
    )
    return panel, block


@dataclass(frozen=True)
class _Place:
    """Where a register tile is: what it reads, its rows and columns, how many columns are left, its strides."""

    left: Value
    right: Value
    ahead: Value
    start: Value
    row: Value | int
    height: Value | int
    column: Value | int
    columns: Value | int
    batch: Sequence[Value | int]
    numbers: Sequence[Value]


def _in_registers(frame: Frame, tiles: _Tiles, at: _Place, vectors: int, masked: bool) -> None:
    """Sums and body in one function."""
    code = frame.code
    places = [frame.table, at.left, at.right, at.ahead, at.start]
    point = [code.i64(v) for v in (at.row, at.column, at.columns, *at.batch)]
    for height in _heights(tiles.kernel):
        with code.when(code.b.icmp_signed("==", code.i64(at.height), code.i64(height))):
            code.call(tiles.whole(height, vectors, masked), [*places, *point, *at.numbers])


def _through_buffer(
    frame: Frame, tiles: _Tiles, at: _Place, scratch: Value, entries: Value, vectors: int, masked: bool
) -> None:
    """The sums by as many vectors at once as registers hold, then the body on all of them."""
    code, kernel, isa = frame.code, tiles.kernel, frame.code.module.isa
    for height in _heights(kernel):
        with code.when(code.b.icmp_signed("==", code.i64(at.height), code.i64(height))):
            for first in range(0, vectors, isa.vectors):
                some, skipped = min(isa.vectors, vectors - first), first * LANES
                cut = masked and (not isinstance(kernel.n, int) or first + some == vectors)
                right = code.at(at.right, skipped * word_bytes(kernel, isa))
                start, sums = (code.at(p, skipped * (8 if kernel.wide else 4)) for p in (at.start, scratch))
                columns = code.i64(code.sub(at.columns, skipped))
                places = [at.left, right, at.ahead, start, sums, columns]
                code.call(tiles.tile(height, some, cut), [*places, *at.numbers])
    where = [code.i64(v) for v in (at.row, at.height, at.column, at.columns, *at.batch)]
    code.call(tiles.epilogue(vectors, masked), [frame.table, scratch, entries, *where])


def _operands(
    frame: Frame, kernel: Contraction, batch: Sequence[Value | int], panel: Value | int
) -> tuple[Value, Value, Value]:
    """Where the left rows, the right panel and the sums' start values of one point of the batch dims begin."""
    code, left, right, size = frame.code, kernel.left, kernel.right, element_bytes(kernel)
    left_at: Value = frame.slots[left.slot]
    right_at: Value = frame.slots[right.slot]
    for index, stride in zip(batch, left.batch, strict=True):
        left_at = code.at(left_at, code.mul(index, code.mul(frame.size(stride), size)))
    if right.packed:
        for index, stride in zip(batch, right.batch, strict=True):
            panel = code.add(panel, code.mul(index, frame.size(stride)))
        right_at = code.at(right_at, code.mul(panel, _panel_bytes(frame, kernel)))
    else:
        for index, stride in zip(batch, right.batch, strict=True):
            right_at = code.at(right_at, code.mul(index, code.mul(frame.size(stride), size)))
        right_at = code.at(right_at, code.mul(panel, TILE_COLUMNS * size))
    if kernel.is_float:
        return left_at, right_at, right_at
    start = code.mul(code.mul(panel, TILE_COLUMNS), 8 if kernel.wide else 4)
    return left_at, right_at, code.at(frame.slots[kernel.start], start)


def _ahead(frame: Frame, kernel: Contraction, right_at: Value, left: Value, tile: Value | int) -> Value:
    """What a unit's tile fetches besides what it needs: the first tiles the next panel, the others later rows.

    The first tile of a panel would else wait for memory. Behind the last panel lie the constants of the next kernels.
    """
    code = frame.code
    if kernel.is_float or not kernel.right.packed:
        return right_at
    panel, parts = _panel_bytes(frame, kernel), code.module.isa.word * TILE_COLUMNS // LINE_BYTES
    part = code.add(panel, code.mul(code.div(panel, parts), tile))
    row = left if is_spaced(kernel) else code.load(PTR, left, align=8)
    later = code.at(row, code.mul(frame.size(kernel.left.m[-1]), 2 * kernel.tile_rows))
    return code.b.select(code.less(tile, parts), code.at(right_at, part), later)


def _list_rows(
    frame: Frame, kernel: Contraction, left_at: Value, entries: Value, row: Value | int, height: Value | int
) -> None:
    """Writes the table of a tile's rows: first all places, then all coordinates."""
    code, size = frame.code, element_bytes(kernel)
    coordinates_at = code.at(entries, kernel.tile_rows * ROW_WORDS)
    with code.loop(0, height) as r:
        coordinates = frame.split(code.add(row, r), kernel.m)
        place: Value | int = 0
        for i, (index, stride) in enumerate(zip(coordinates, kernel.left.m, strict=True)):
            place = code.add(place, code.mul(index, code.mul(frame.size(stride), size)))
            at = code.add(code.mul(r, 8 * len(kernel.m)), 8 * i)
            code.store(code.i64(index), code.at(coordinates_at, at), align=8)
        code.store(code.at(left_at, place), code.at(entries, code.mul(r, ROW_WORDS)), align=8)


def _by_width(
    code: Code, kernel: Contraction, panel: Value | int, panels: Value | int, run: Callable[[int, bool], None]
) -> None:
    """Runs the full-width code on all panels, but the last one's own code on the last if it is narrower."""
    if isinstance(kernel.n, int):
        rest = kernel.n % TILE_COLUMNS
        narrow = (-(-rest // LANES), rest % LANES != 0)
        if rest == 0:
            run(VECTORS, False)
            return
        if kernel.n < TILE_COLUMNS:
            run(*narrow)
            return
    else:
        narrow = (VECTORS, True)
    last = code.b.icmp_signed("==", code.i64(panel), code.i64(code.sub(panels, 1)))
    with code.b.if_else(last) as (then, otherwise):
        with then:
            run(*narrow)
        with otherwise:
            run(VECTORS, False)


def _heights(kernel: Contraction) -> Sequence[int]:
    m = product(kernel.m)
    if not isinstance(m, int):
        return range(1, kernel.tile_rows + 1)
    assert isinstance(kernel.tile_count, int)
    base, extra = divmod(m, kernel.tile_count)
    return (base, base + 1) if extra else (base,)


def _panel_bytes(frame: Frame, kernel: Contraction) -> Value | int:
    code, (*taps, run) = frame.code, kernel.k
    count = frame.size(product(taps))
    isa = code.module.isa
    word = k_of_word(kernel, isa)
    words = code.div(code.add(frame.size(run), word - 1), word)
    return code.mul(code.mul(count, words), TILE_COLUMNS * word_bytes(kernel, isa))
