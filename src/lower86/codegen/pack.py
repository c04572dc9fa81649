"""An activation as the right operand of a contraction: panels of words of k, and the integers beside the products.

With u8 a, of zero point p, and s8 b, of zero point q (a u8 is an s8 128 lower, an s8 a u8 128 higher):

    Σ (a - p)(b - q)  =  Σ a·b  +  [k·p·q - p·Σ b]  -  [q·Σ a]

The first bracket is a column's: the contraction's sums begin with it. The second is a row's; it is computed only where
q can be other than 0. Sums are dot products with ones.
"""

from __future__ import annotations

from ..program.kernels import PACKED_ROWS, TILE_COLUMNS, Pack, RowSums
from ..program.sizes import product
from .builder import I8, I32, I64, LANES, Value, Variable, vector
from .frame import Frame
from .pointwise import lane_loop
from .tile import rest_of_word


def emit_pack(frame: Frame, kernel: Pack) -> None:
    """The whole kernel: a panel, or some rows of the left operand."""
    code = frame.code
    panels = frame.size(kernel.panels)
    if kernel.rows is None:
        _emit_panel(frame, kernel)
    else:
        with code.b.if_else(code.less(frame.unit, panels)) as (panel, rows):
            with panel:
                _emit_panel(frame, kernel)
            with rows:
                _emit_row_sums(frame, kernel, kernel.rows, code.sub(frame.unit, panels))
    code.ret()


def _emit_panel(frame: Frame, kernel: Pack) -> None:
    code, isa = frame.code, frame.code.module.isa
    n, k = frame.size(kernel.n), frame.size(kernel.k)
    panels = code.div(code.add(n, TILE_COLUMNS - 1), TILE_COLUMNS)
    panel, rest = code.rem(frame.unit, panels), code.div(frame.unit, panels)
    *batch, k_stride, n_stride = frame.sizes(kernel.strides)
    column = code.mul(panel, TILE_COLUMNS)
    source = code.at(frame.slots[0], code.mul(column, n_stride))
    for index, stride in zip(frame.split(rest, kernel.batch), batch, strict=False):
        source = code.at(source, code.mul(index, stride))
    words = code.div(code.add(k, isa.word - 1), isa.word)
    out = code.at(frame.slots[1], code.mul(frame.unit, code.mul(words, TILE_COLUMNS * isa.word)))
    columns = code.minimum(TILE_COLUMNS, code.sub(n, column))
    if kernel.strides[-1] == 1:
        _pack_rows(frame, kernel, source, k_stride, columns, out)
    else:
        _pack_columns(frame, kernel, source, n_stride, columns, out)
    _store_starts(frame, kernel, out, words, columns)


def _pack_rows(
    frame: Frame, kernel: Pack, source: Value, k_stride: Value | int, columns: Value | int, out: Value
) -> None:
    """Columns lie next to each other: `word` rows become words by shuffles."""
    code, word, k = frame.code, frame.code.module.isa.word, frame.size(kernel.k)
    full = code.div(k, word)
    flip, zero = code.constant(vector(I8), 0x80 if kernel.dtype == "u8" else 0), code.constant(vector(I8), 0)

    def block(column: Value, mask: Value | None) -> None:
        def row(number: Value | int) -> Value:
            place = code.at(code.at(source, code.mul(number, k_stride)), column)
            return code.b.xor(code.masked_load(I8, place, mask), flip)

        def store(place: Value | int, rows: list[Value]) -> None:
            at = code.at(out, code.mul(code.add(code.mul(place, TILE_COLUMNS), column), word))
            code.store(code.interleaved(rows), at, align=16)

        with code.loop(0, full) as w:
            store(w, [row(code.add(code.mul(w, word), r)) for r in range(word)])
        rest = code.rem(k, word)
        with code.when(code.less(0, rest)):
            rows = []
            for r in range(word):
                is_there = code.less(r, rest)
                place = code.minimum(code.add(code.mul(full, word), r), code.sub(k, 1))
                rows.append(code.b.select(is_there, row(place), zero))
            store(full, rows)

    lane_loop(frame, columns, 0, block)


def _pack_columns(
    frame: Frame, kernel: Pack, source: Value, n_stride: Value | int, columns: Value | int, out: Value
) -> None:
    """The k of a column lie next to each other: words are there already, and change places."""
    code, isa, k = frame.code, frame.code.module.isa, frame.size(kernel.k)
    word, full, last = isa.word, code.div(k, isa.word), code.sub(columns, 1)
    flip = 0x80 if kernel.dtype == "u8" else 0

    def flipped(value: Value, count: int) -> Value:
        mask = code.signed(isa.word_type, int.from_bytes(bytes([flip] * count), "little"))
        return code.b.xor(value, code.splat(mask) if value.type != isa.word_type else mask)

    with code.loop(0, columns, LANES) as first:
        # Beyond the last column it is repeated, and nobody looks.
        places = [code.minimum(code.add(first, c), last) for c in range(LANES)]
        lines = [code.at(source, code.mul(place, n_stride)) for place in places]
        target = code.at(out, code.mul(first, word))

        def block(w: Value, mask: Value | None, lines: list[Value] = lines, target: Value = target) -> None:
            loaded = [code.masked_load(isa.word_type, code.at(line, code.mul(w, word)), mask) for line in lines]
            for i, value in enumerate(code.transpose(loaded)):
                at = code.at(target, code.mul(code.add(w, i), TILE_COLUMNS * word))
                if mask is None:
                    code.store(flipped(value, word), at, align=16)
                else:
                    with code.when(code.less(code.add(w, i), full)):
                        code.store(flipped(value, word), at, align=16)

        lane_loop(frame, full, 0, block)
        rest, done = code.rem(k, word), code.mul(full, word)
        for count in range(1, word):
            if isinstance(rest, int) and rest != count:
                continue
            with code.when(code.b.icmp_signed("==", code.i64(rest), code.i64(count))):
                load = rest_of_word(code, count)
                for c, line in enumerate(lines):
                    at = code.at(target, code.add(code.mul(full, TILE_COLUMNS * word), c * word))
                    code.store(flipped(load(code.at(line, done)), count), at)


def _store_starts(frame: Frame, kernel: Pack, packed: Value, words: Value | int, columns: Value | int) -> None:
    """k·p·q - p·Σ b of each of the panel's columns that there are, and of some beyond."""
    code, isa = frame.code, frame.code.module.isa
    pieces, step = TILE_COLUMNS // isa.lanes, isa.word * isa.lanes
    ones = code.signed(isa.word_type, int.from_bytes(b"\x01" * isa.word, "little"))
    spread = isa.spread(code, ones)
    sums = [code.variable(code.constant(isa.sums, 0)) for _ in range(pieces)]
    with code.loop(0, words) as w:
        line = code.at(packed, code.mul(w, TILE_COLUMNS * isa.word))
        for p, total in enumerate(sums):
            total.set(isa.dot(code, total.get(), spread, isa.weights(code, code.at(line, step * p))))
    element = I64 if kernel.wide else I32
    left, right, k = (_integer(frame, kernel, v) for v in (0, 1, None))
    both = code.splat(code.b.mul(code.b.mul(left, right), k), isa.lanes)
    size = 8 if kernel.wide else 4
    start = code.at(frame.slots[2], code.mul(frame.unit, TILE_COLUMNS * size))
    for p, total in enumerate(sums):
        value = code.b.sext(total.get(), vector(element, isa.lanes)) if kernel.wide else total.get()
        value = code.b.sub(both, code.b.mul(value, code.splat(left, isa.lanes)))
        with code.when(code.less(isa.lanes * p, columns)):
            code.store(value, code.at(start, size * isa.lanes * p), align=16)


def _integer(frame: Frame, kernel: Pack, param: int | None) -> Value:
    """A param, or k, in as many bits as sums have."""
    code = frame.code
    if param is None:
        k = code.i64(frame.size(kernel.k))
        return k if kernel.wide else code.b.trunc(k, I32)
    number = frame.param(param, "i32")
    return code.b.sext(number, I64) if kernel.wide else number


def _emit_row_sums(frame: Frame, kernel: Pack, rows: RowSums, unit: Value | int) -> None:
    """q·Σ a of some rows of the left operand."""
    code, isa, k = frame.code, frame.code.module.isa, frame.size(kernel.k)
    step, flips = isa.word * isa.lanes, rows.dtype == "i8"
    ones = isa.weights_of(code, code.constant(vector(I8, step), 1))
    full, size = code.mul(code.div(k, step), step), 8 if kernel.wide else 4
    zero_point = _integer(frame, kernel, 1)
    first, count = code.mul(unit, PACKED_ROWS), frame.size(product(rows.sizes))
    with code.loop(first, code.minimum(count, code.add(first, PACKED_ROWS))) as number:
        row: Value = frame.slots[3]
        for index, stride in zip(frame.split(number, rows.sizes), frame.sizes(rows.strides), strict=True):
            row = code.at(row, code.mul(index, stride))
        whole = code.variable(code.constant(isa.sums, 0))
        with code.loop(0, full, step) as i:
            values = code.load(vector(I8, step), code.at(row, i))
            if flips:
                values = code.b.xor(values, code.constant(values.type, 0x80))
            whole.set(isa.dot(code, whole.get(), isa.activations_of(code, values), ones))
        rest = code.variable(code.constant(vector(I32), 0))

        def block(i: Value, mask: Value | None, row: Value = row, rest: Variable = rest) -> None:
            values = code.masked_load(I8, code.at(row, i), mask)
            if flips:
                flipped = code.b.xor(values, code.constant(values.type, 0x80))
                values = flipped if mask is None else code.b.select(mask, flipped, values)
            rest.set(code.b.add(rest.get(), code.b.zext(values, vector(I32))))

        lane_loop(frame, k, full, block)
        parts = [whole.get(), rest.get()]
        if kernel.wide:
            parts = [code.b.sext(part, vector(I64, part.type.count)) for part in parts]
        total = code.b.add(*(code.reduce("add", part) for part in parts))
        code.store(code.b.mul(total, zero_point), code.at(frame.slots[4], code.mul(number, size)))
