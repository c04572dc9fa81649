"""The operands of attention on integers as its register tiles want them, and the sums of their integers."""

from __future__ import annotations

from ..program.kernels import TILE_ROWS
from .builder import F32, I8, I32, LANES, Value, vector
from .int8_attention_unit import COLUMNS, LINE, UnitCode
from .pointwise import lane_loop
from .tile import rest_of_word

_ROUND = 1.5 * 2**23  # has no room for a fraction: the low bits of _ROUND + x are x, rounded half to even


def pack_queries(k: UnitCode) -> None:
    """The queries as the right operand of the scores; beyond the last they repeat it, and are never written out."""
    code, isa, word = k.code, k.isa, k.isa.word
    head_dim, words = k.kernel.head_dim, -(-k.kernel.head_dim // k.isa.word)
    row_bytes = k.frame.size(k.kernel.q[2])
    last = code.sub(k.frame.size(k.kernel.queries), 1)
    flip = 0x80 if k.integers.query == "u8" else 0

    def flipped(value: Value, count: int) -> Value:
        mask = code.signed(isa.word_type, int.from_bytes(bytes([flip] * count), "little"))
        return code.b.xor(value, code.splat(mask) if value.type != isa.word_type else mask)

    def row(query: Value | int) -> Value:
        place = code.minimum(code.add(k.unit.where[2], query), last)
        return code.at(k.unit.q, code.mul(place, row_bytes))

    vectors = code.div(code.add(k.unit.count, LANES - 1), LANES)
    with code.loop(0, vectors) as j:
        first = code.mul(j, LANES)
        rows = [row(code.add(first, r)) for r in range(LANES)]
        panel = code.at(k.buffers.queries, code.mul(first, word))

        def block(w: Value, mask: Value | None) -> None:
            lines = [code.masked_load(isa.word_type, code.at(p, code.mul(w, word)), mask) for p in rows]
            for i, line in enumerate(code.transpose(lines)):
                place = code.add(w, i)
                with code.when(code.less(place, head_dim // word)):
                    at = code.at(panel, code.mul(place, COLUMNS * word))
                    code.store(flipped(line, word), at, align=16)

        lane_loop(k.frame, head_dim // word, 0, block)
        if head_dim % word:
            load = rest_of_word(code, head_dim % word)
            for r, pointer in enumerate(rows):
                value = flipped(load(code.at(pointer, head_dim // word * word)), head_dim % word)
                at = code.at(panel, (head_dim // word * COLUMNS + r) * word)
                code.store(value, at)
    _start_of_scores(k, words)


def _start_of_scores(k: UnitCode, words: int) -> None:
    """-Σ_d q · zero point of k, and the product of both: what the scores of each query begin with."""
    code, isa = k.code, k.isa
    pieces = COLUMNS // isa.lanes
    ones = code.signed(isa.word_type, int.from_bytes(b"\x01" * isa.word, "little"))
    spread, kind = isa.spread(code, ones), vector(I32, isa.lanes)
    step, line = isa.word * isa.lanes, isa.word * COLUMNS
    sums = [code.variable(code.constant(kind, 0)) for _ in range(pieces)]
    with code.loop(0, words) as w:
        at = code.at(k.buffers.queries, code.mul(w, line))
        for p, total in enumerate(sums):
            total.set(isa.dot(code, total.get(), spread, isa.weights(code, code.at(at, step * p))))
    key_zero, query_zero = k.param("key_zero_point"), k.param("query_zero_point")
    both = code.b.mul(code.b.mul(key_zero, query_zero), code.i32(k.kernel.head_dim))
    for p, total in enumerate(sums):
        start = code.b.sub(code.splat(both, isa.lanes), code.b.mul(total.get(), code.splat(key_zero, isa.lanes)))
        code.store(start, code.at(k.buffers.start, 4 * isa.lanes * p), align=32)


def sum_keys(k: UnitCode, first: Value) -> None:
    """The sums of the keys from `first` on, those of the last tile's rows beyond what is held among them."""
    code, row_bytes = k.code, k.frame.size(k.kernel.k[2])
    with code.loop(0, code.minimum(k.keys_held + TILE_ROWS - 1, code.sub(k.unit.end, first))) as t:
        row = code.at(k.unit.k, code.mul(code.add(first, t), row_bytes))
        code.store(_sum_of_key(k, row), code.at(k.buffers.key_sums, code.mul(t, 4)))


def _sum_of_key(k: UnitCode, pointer: Value) -> Value:
    """The sum of a key's integers, as u8."""
    code, total = k.code, k.code.i32(0)
    for first in range(0, k.kernel.head_dim, COLUMNS):
        count = min(COLUMNS, k.kernel.head_dim - first)
        lanes = 1 << (count - 1).bit_length()
        values = code.load_first(I8, code.at(pointer, first), count, lanes)
        if k.integers.key == "i8":
            flip = code.vector_of(I8, [0x80] * count + [0] * (lanes - count))
            values = code.b.xor(values, flip)
        total = code.b.add(total, code.reduce("add", code.b.zext(values, vector(I32, lanes))))
    return total


def quantize_weights(k: UnitCode, length: Value | int, padded: Value | int) -> None:
    """The weights as the right operand of the second product; those of keys beyond the last are 0, like real ones."""
    code, buffers, word = k.code, k.buffers, k.isa.word
    zero = code.constant(vector(F32), 0.0)
    # The low bits of _ROUND + x are x: with what is taken off again, x and the zero point of u8 weights.
    shift = code.constant(vector(F32), _ROUND)
    taken = code.b.sub(code.bits_of(_ROUND), code.b.add(k.param("weight_zero_point"), code.i32(128)))
    taken, most = code.splat(taken), code.splat(k.param("most_weight"))

    def pack(vectors: list[Value | int]) -> None:
        places = [code.mul(j, 64) for j in vectors]
        scales = [code.load(vector(F32), code.at(buffers.scale, place), align=64) for place in places]
        with code.loop(length, padded) as t:
            for place in places:
                code.store(zero, code.at(buffers.scores, code.add(code.mul(t, LINE), place)), align=64)
        for place in places:
            _drop_rows_with_nan(k, length, place)
        with code.loop(0, padded, word) as t:
            line = code.at(buffers.weights, code.mul(t, COLUMNS))
            for j, place, scale in zip(vectors, places, scales, strict=True):
                steps = []
                for i in range(word):
                    at = code.at(buffers.scores, code.add(code.mul(code.add(t, i), LINE), place))
                    rounded = code.intrinsic("fma", code.load(vector(F32), at, align=64), scale, shift)
                    steps.append(code.b.sub(code.b.bitcast(rounded, vector(I32)), taken))
                words = k.isa.byte_words(code, steps, most)
                code.store(words, code.at(line, code.mul(j, LANES * word)), align=16)

    k.for_vectors(pack)


def _drop_rows_with_nan(k: UnitCode, length: Value | int, place: Value | int) -> None:
    """The weights of a row that holds a NaN are NaN, which is quantized as a 0."""
    code = k.code
    total = code.load(vector(F32), code.at(k.buffers.total, place), align=64)
    bad = code.b.fcmp_unordered("uno", total, total)
    with code.when(code.reduce("or", bad), unlikely=True), code.loop(0, length) as t:
        at = code.at(k.buffers.scores, code.add(code.mul(t, LINE), place))
        kept = code.b.select(bad, code.constant(vector(F32), 0.0), code.load(vector(F32), at, align=64))
        code.store(kept, at, align=64)


def pack_values(k: UnitCode, first: Value, padded: Value | int) -> None:
    """The values in words of several keys, and the sum of each dim; keys beyond the last repeat it, weighted by 0."""
    code, isa, buffers, kernel, word = k.code, k.isa, k.buffers, k.kernel, k.isa.word
    row_bytes, bytes_ = k.frame.size(kernel.v[2]), vector(I8)
    flip, last = code.constant(bytes_, 0x80), code.sub(k.unit.end, 1)
    pieces = LANES // isa.lanes
    step = isa.lanes * word
    ones = isa.weights_of(code, code.constant(vector(I8, step), 1))

    def block(d: Value, mask: Value | None) -> None:
        at = [code.at(buffers.value_sums, code.add(code.mul(d, 4), 4 * isa.lanes * p)) for p in range(pieces)]
        totals = [code.variable(code.load(isa.sums, place, align=32)) for place in at]
        with code.loop(0, padded, word) as t:
            rows = []
            for r in range(word):
                key = code.minimum(code.add(first, code.add(t, r)), last)
                row = code.masked_load(I8, code.at(code.at(k.unit.v, code.mul(key, row_bytes)), d), mask)
                rows.append(code.b.xor(row, flip) if k.integers.value == "i8" else row)
            words = code.interleaved(rows)
            place = code.add(code.mul(t, buffers.dims), code.mul(d, word))
            code.store(words, code.at(buffers.values, place), align=1)
            for p, total in enumerate(totals):
                part = code.part(words, p * step, step) if pieces > 1 else words
                total.set(isa.dot(code, total.get(), isa.activations_of(code, part), ones))
        for place, total in zip(at, totals, strict=True):
            code.store(total.get(), place, align=32)

    lane_loop(k.frame, kernel.value_dim, 0, block)
    one = code.signed(isa.word_type, int.from_bytes(b"\x01" * word, "little"))
    with code.loop(0, padded, word) as t:
        code.store(one, code.at(buffers.values, code.add(code.mul(t, buffers.dims), kernel.value_dim * word)))
