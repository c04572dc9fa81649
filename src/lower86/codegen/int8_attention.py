"""Attention whose products are integer ones, with the softmax between them quantized, without the score matrix.

As in `attention.py`, lanes run along queries, and scores and output are kept transposed. Both products are the
register tile of contractions (`tile.py`), six rows by 32 queries:

    score[key][query]  = Σ_d u8(k)[key, d] · s8(q)[d][query]        queries packed once a unit, keys read in place
    out[dim][query]    = Σ_t u8(v)[t, dim] · s8(p)[t][query]        values transposed, weights packed

The weights are quantized after they have been divided by their sum, so a unit has two rounds: one over all scores, for
the maximum and the sum, and one that quantizes and adds up values. It holds the scores of up to 1024 keys in between;
of more, it computes them again for the second round.

Zero points come off the sums: each product needs the sums of its operands' integers. Those of a query are part of what
its scores begin with; those of keys and values are taken by themselves; those of the weights are the output of one more
dim, of ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..program.body import Body
from ..program.kernels import (
    ATTENTION_PARAMS,
    TILE_ROWS,
    Attention,
    Contraction,
    IntegerProducts,
    Left,
    Right,
)
from ..program.sizes import Size, dim_atom
from .attention import masked, unit_of, write_rows
from .builder import F32, I8, I32, I64, LANES, Code, Value, vector
from .frame import Frame
from .mathematics import softmax_weight
from .pointwise import lane_loop
from .tile import emit_tile, rest_of_word

_KEYS = 1024
"""Keys whose scores a unit holds."""
_COLUMNS = 32
"""Queries handled at once: with more, scores and weights of 128 keys would fall out of the first cache level."""
_VECTORS = _COLUMNS // LANES
_LINE = _COLUMNS * 4  # bytes of a row of scores or results
_ROUND = 1.5 * 2**23  # has no room for a fraction: the low bits of _ROUND + x are x, rounded half to even
_SOME = dim_atom("some")  # a size that a tile is given


@dataclass(frozen=True)
class _Buffers:
    """A unit's own memory.

    queries: [d/word][32][word] s8; start: 32 i32 that scores begin with; scores: [key][32] f32, with a tile's rows
    more; weights: [key/word][32][word] s8; values: [key/word][`dims`][word] u8, the dim after the last all ones;
    value_sums: an i32 a dim; key_sums: one a key; sums: [dim][32] i32; out: the same, of all keys; top, total, scale:
    32 f32.
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


class _Kernel:
    """What all parts share: the unit, its memory, the tiles by how many vectors of queries they take, the params."""

    def __init__(self, frame: Frame, kernel: Attention, integers: IntegerProducts) -> None:
        self.frame, self.kernel, self.integers, self.code = frame, kernel, integers, frame.code
        self.isa, self.unit = frame.code.module.isa, unit_of(frame, kernel)
        keys = kernel.keys if isinstance(kernel.keys, int) and kernel.keys else _KEYS + 1
        self.keys_held = min(_KEYS, -(-keys // LANES) * LANES)
        self.is_one_round = keys <= _KEYS
        self.groups = -(-(kernel.value_dim + 1) // TILE_ROWS)
        self.buffers = self._memory()
        self._tiles: dict[tuple[str, int], Value] = {}

    def _memory(self) -> _Buffers:
        code, kernel, held = self.code, self.kernel, self.keys_held
        words = -(-kernel.head_dim // self.isa.word)
        rows = max(self.groups * TILE_ROWS, -(-kernel.value_dim // LANES) * LANES)

        def bytes_of(count: int) -> Value:
            return code.stack(I8, count)

        sums = bytes_of(rows * _LINE)
        return _Buffers(
            queries=bytes_of(words * self.isa.word * _COLUMNS), start=bytes_of(_LINE),
            scores=bytes_of((held + TILE_ROWS) * _LINE), weights=bytes_of(held * _COLUMNS),
            values=bytes_of(held * rows), value_sums=bytes_of(4 * rows), key_sums=bytes_of(4 * held + 64), sums=sums,
            out=sums if self.is_one_round else bytes_of(rows * _LINE), top=bytes_of(_LINE), total=bytes_of(_LINE),
            scale=bytes_of(_LINE), entries=code.stack(I64, TILE_ROWS), zeros=bytes_of(_LINE), dims=rows,
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
            shape = Contraction(kind, (), m, _COLUMNS, k, left, right, 0, 0, Body(), 1)
            self._tiles[product, vectors] = emit_tile(
                self.code.module, shape, TILE_ROWS, vectors, False, product, _COLUMNS
            )
        return self._tiles[product, vectors]

    def for_vectors(self, emit: Callable[[list[Value | int]], None]) -> None:
        """`emit(vectors)` for all vectors of queries there are: all at once, or where some are missing, each."""
        code, queries = self.code, self.kernel.queries
        if isinstance(queries, int) and (queries - 1) % _COLUMNS >= _COLUMNS - LANES:
            emit(list(range(_VECTORS)))
            return
        vectors = code.div(code.add(self.unit.count, LANES - 1), LANES)
        with code.b.if_else(code.less(vectors, _VECTORS)) as (some, every):
            with some, code.loop(0, vectors) as j:
                emit([j])
            with every:
                emit(list(range(_VECTORS)))

    def for_portions(self, vectors: list[Value | int], run: Callable[[Value | int, int], None]) -> None:
        """`run(first vector, how many)` for as many as the registers hold the sums of."""
        portion = min(self.isa.vectors, len(vectors))
        for first in range(0, len(vectors), portion):
            run(vectors[first], portion)

    def call_tile(self, product: str, vectors: int, places: list[Value], numbers: list[Value | int]) -> None:
        """Calls a tile with `left, right, start, sums`; it may fetch the right operand ahead, which is there."""
        left, right, start, sums = places
        code = self.code
        arguments = [left, right, right, start, sums, code.i64(_COLUMNS), *map(code.i64, numbers)]
        code.call(self.tile(product, vectors), arguments)


def emit_int8_attention(frame: Frame, kernel: Attention) -> None:
    """The whole kernel: up to 64 queries of one head."""
    assert kernel.integers is not None
    k = _Kernel(frame, kernel, kernel.integers)
    code, buffers, whole = frame.code, k.buffers, k.unit
    _zero(code, buffers.zeros, _VECTORS)
    _zero(code, buffers.value_sums, -(-kernel.value_dim // LANES))
    if k.is_one_round:
        padded = code.mul(code.div(code.add(whole.end, LANES - 1), LANES), LANES)
        _pack_values(k, code.i64(0), padded)
        _sum_keys(k, code.i64(0))
    with code.loop(0, whole.count, _COLUMNS) as first:
        batch, head, query = whole.where
        count = code.minimum(_COLUMNS, code.sub(whole.count, first))
        k.unit = replace(whole, where=[batch, head, code.add(query, first)], count=count)
        _emit_queries(k)
    code.ret()


def _emit_queries(k: _Kernel) -> None:
    """A few queries: all that follows `_pack_values`."""
    code, buffers, end = k.code, k.buffers, k.unit.end
    _pack_queries(k)
    for value, buffer in ((float("-inf"), buffers.top), (0.0, buffers.total)):
        for j in range(_VECTORS):
            code.store(code.constant(vector(F32), value), code.at(buffer, 64 * j), align=64)
    if not k.is_one_round:
        _zero(code, buffers.out, k.groups * TILE_ROWS * _VECTORS)
        _zero(code, buffers.value_sums, -(-k.kernel.value_dim // LANES))
    with code.loop(0, end, k.keys_held) as first:
        _scores(k, first)
    _scale_weights(k)
    added = code.variable(code.i64(0))
    with code.loop(0, end, k.keys_held) as first:
        length = code.minimum(k.keys_held, code.sub(end, first))
        padded = code.mul(code.div(code.add(length, LANES - 1), LANES), LANES)
        if not k.is_one_round:
            with code.when(code.less(k.keys_held, end)):
                _scores(k, first)
            _pack_values(k, first, padded)
        _quantize_weights(k, length, padded)
        _add_values(k, padded)
        added.set(code.i64(code.add(added.get(), padded)))
    _write(k, added.get())


def _zero(code: Code, pointer: Value, vectors: int) -> None:
    with code.loop(0, vectors) as i:
        code.store(code.constant(vector(I32), 0), code.at(pointer, code.mul(i, 64)), align=64)


def _pack_queries(k: _Kernel) -> None:
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
                    at = code.at(panel, code.mul(place, _COLUMNS * word))
                    code.store(flipped(line, word), at, align=16)

        lane_loop(k.frame, head_dim // word, 0, block)
        if head_dim % word:
            load = rest_of_word(code, head_dim % word)
            for r, pointer in enumerate(rows):
                value = flipped(load(code.at(pointer, head_dim // word * word)), head_dim % word)
                at = code.at(panel, (head_dim // word * _COLUMNS + r) * word)
                code.store(value, at)
    _start_of_scores(k, words)


def _start_of_scores(k: _Kernel, words: int) -> None:
    """-Σ_d q · zero point of k, and the product of both: what the scores of each query begin with."""
    code, isa = k.code, k.isa
    pieces = _COLUMNS // isa.lanes
    ones = code.signed(isa.word_type, int.from_bytes(b"\x01" * isa.word, "little"))
    spread, kind = isa.spread(code, ones), vector(I32, isa.lanes)
    step, line = isa.word * isa.lanes, isa.word * _COLUMNS
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


def _scores(k: _Kernel, first: Value) -> None:
    """The scores of the keys from `first` on as exp(score - maximum so far), and what that makes of their sums."""
    code, unit = k.code, k.unit
    length = code.minimum(k.keys_held, code.sub(unit.end, first))
    if not k.is_one_round:
        _sum_keys(k, first)
    k.for_vectors(lambda vectors: _scores_of(k, first, length, vectors))


def _scores_of(k: _Kernel, first: Value, length: Value | int, vectors: list[Value | int]) -> None:
    code, kernel, unit, buffers = k.code, k.kernel, k.unit, k.buffers
    row_bytes = k.frame.size(kernel.k[2])
    factor, query_zero = code.splat(k.param("score_scale")), k.param("query_zero_point")
    places = [code.mul(j, 64) for j in vectors]
    tops = [code.variable(code.load(vector(F32), code.at(buffers.top, at), align=64)) for at in places]
    numbers: list[Value | int] = [0, 0, kernel.head_dim, 1]
    with code.loop(0, length, TILE_ROWS) as t:
        keys = [code.minimum(code.add(first, code.add(t, r)), code.sub(unit.end, 1)) for r in range(TILE_ROWS)]
        for r, key in enumerate(keys):
            code.store(code.at(unit.k, code.mul(key, row_bytes)), code.at(buffers.entries, 8 * r), align=8)
        lines = code.at(buffers.scores, code.mul(t, _LINE))

        def run(j: Value | int, count: int, lines: Value = lines) -> None:
            panel = code.at(buffers.queries, code.mul(j, LANES * k.isa.word))
            start, sums = (code.at(p, code.mul(j, 64)) for p in (buffers.start, lines))
            k.call_tile("scores", count, [buffers.entries, panel, start, sums], numbers)

        k.for_portions(vectors, run)
        for r, key in enumerate(keys):
            total = code.load(I32, code.at(buffers.key_sums, code.mul(code.sub(key, first), 4)))
            excess = code.splat(code.b.mul(total, query_zero))
            for j, place, top in zip(vectors, places, tops, strict=True):
                at = code.at(lines, code.add(place, r * _LINE))
                exact = code.b.sub(code.load(vector(I32), at, align=64), excess)
                score = code.b.fmul(code.b.sitofp(exact, vector(F32)), factor)
                score = masked(k.frame, kernel, unit, (key, j), score)
                code.store(score, at, align=64)
                best = top.get()
                top.set(code.b.select(code.b.fcmp_ordered(">", score, best), score, best))
    _exponentials(k, length, places, [top.get() for top in tops])


def _sum_keys(k: _Kernel, first: Value) -> None:
    """The sums of the keys from `first` on."""
    code, row_bytes = k.code, k.frame.size(k.kernel.k[2])
    with code.loop(0, code.minimum(k.keys_held, code.sub(k.unit.end, first))) as t:
        row = code.at(k.unit.k, code.mul(code.add(first, t), row_bytes))
        code.store(_sum_of_key(k, row), code.at(k.buffers.key_sums, code.mul(t, 4)))


def _sum_of_key(k: _Kernel, pointer: Value) -> Value:
    """The sum of a key's integers, as u8."""
    code, total = k.code, k.code.i32(0)
    for first in range(0, k.kernel.head_dim, _COLUMNS):
        count = min(_COLUMNS, k.kernel.head_dim - first)
        lanes = 1 << (count - 1).bit_length()
        values = code.load_first(I8, code.at(pointer, first), count, lanes)
        if k.integers.key == "i8":
            flip = code.vector_of(I8, [0x80] * count + [0] * (lanes - count))
            values = code.b.xor(values, flip)
        total = code.b.add(total, code.reduce("add", code.b.zext(values, vector(I32, lanes))))
    return total


def _exponentials(k: _Kernel, length: Value | int, places: list[Value | int], tops: list[Value]) -> None:
    code, buffers = k.code, k.buffers
    minus_infinity, zero = code.constant(vector(F32), float("-inf")), code.constant(vector(F32), 0.0)
    bests, totals = [], []
    for place, top in zip(places, tops, strict=True):
        # Where every key so far is masked, -inf - (-inf) would be NaN: measure from 0 there.
        best = code.b.select(code.b.fcmp_ordered("==", top, minus_infinity), zero, top)
        before = code.load(vector(F32), code.at(buffers.top, place), align=64)
        total = code.load(vector(F32), code.at(buffers.total, place), align=64)
        code.store(top, code.at(buffers.top, place), align=64)
        bests.append(best)
        totals.append((code.b.fmul(total, softmax_weight(code, code.b.fsub(before, best))), code.variable(zero)))
    with code.loop(0, length) as t:
        for place, best, (_, total) in zip(places, bests, totals, strict=True):
            at = code.at(buffers.scores, code.add(code.mul(t, _LINE), place))
            weight = softmax_weight(code, code.b.fsub(code.load(vector(F32), at, align=64), best))
            code.store(weight, at, align=64)
            total.set(code.b.fadd(total.get(), weight))
    for place, (before, total) in zip(places, totals, strict=True):
        code.store(code.b.fadd(before, total.get()), code.at(buffers.total, place), align=64)


def _scale_weights(k: _Kernel) -> None:
    """What turns exponentials to steps of the weights: 0 where all keys are masked, and in a row that holds a NaN."""
    code, zero = k.code, k.code.constant(vector(F32), 0.0)
    inverse = code.splat(k.param("inverse_weight_scale"))
    for j in range(_VECTORS):
        total = code.load(vector(F32), code.at(k.buffers.total, 64 * j), align=64)
        some = code.b.fcmp_ordered(">", total, zero)
        code.store(code.b.select(some, code.b.fdiv(inverse, total), zero), code.at(k.buffers.scale, 64 * j), align=64)


def _quantize_weights(k: _Kernel, length: Value | int, padded: Value | int) -> None:
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
                code.store(zero, code.at(buffers.scores, code.add(code.mul(t, _LINE), place)), align=64)
        for place in places:
            _drop_rows_with_nan(k, length, place)
        with code.loop(0, padded, word) as t:
            line = code.at(buffers.weights, code.mul(t, _COLUMNS))
            for j, place, scale in zip(vectors, places, scales, strict=True):
                steps = []
                for i in range(word):
                    at = code.at(buffers.scores, code.add(code.mul(code.add(t, i), _LINE), place))
                    rounded = code.intrinsic("fma", code.load(vector(F32), at, align=64), scale, shift)
                    steps.append(code.b.sub(code.b.bitcast(rounded, vector(I32)), taken))
                words = k.isa.byte_words(code, steps, most)
                code.store(words, code.at(line, code.mul(j, LANES * word)), align=16)

    k.for_vectors(pack)


def _drop_rows_with_nan(k: _Kernel, length: Value | int, place: Value | int) -> None:
    """The weights of a row that holds a NaN are NaN, which is quantized as a 0."""
    code = k.code
    total = code.load(vector(F32), code.at(k.buffers.total, place), align=64)
    bad = code.b.fcmp_unordered("uno", total, total)
    with code.when(code.reduce("or", bad), unlikely=True), code.loop(0, length) as t:
        at = code.at(k.buffers.scores, code.add(code.mul(t, _LINE), place))
        kept = code.b.select(bad, code.constant(vector(F32), 0.0), code.load(vector(F32), at, align=64))
        code.store(kept, at, align=64)


def _pack_values(k: _Kernel, first: Value, padded: Value | int) -> None:
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


def _add_values(k: _Kernel, padded: Value | int) -> None:
    """out[dim][query] += Σ_t u8(v)[t, dim] · s8(p)[t][query]."""
    code, buffers, word = k.code, k.buffers, k.isa.word
    numbers: list[Value | int] = [word, 0, code.div(padded, word), word, word * buffers.dims, 1]

    def add(vectors: list[Value | int]) -> None:
        with code.loop(0, k.groups) as g:
            values = code.at(buffers.values, code.mul(g, TILE_ROWS * k.isa.word))
            lines = code.mul(g, TILE_ROWS * _LINE)

            def run(j: Value | int, count: int) -> None:
                panel = code.at(buffers.weights, code.mul(j, LANES * k.isa.word))
                sums = code.at(buffers.sums, code.add(lines, code.mul(j, 64)))
                k.call_tile("values", count, [values, panel, buffers.zeros, sums], numbers)

            k.for_portions(vectors, run)

    k.for_vectors(add)
    if k.is_one_round:
        return
    with code.loop(0, code.mul(k.groups * TILE_ROWS, _VECTORS)) as i:
        at = code.at(buffers.out, code.mul(i, 64))
        some = code.load(vector(I32), code.at(buffers.sums, code.mul(i, 64)), align=64)
        code.store(code.b.add(code.load(vector(I32), at, align=64), some), at, align=64)


def _write(k: _Kernel, added: Value) -> None:
    """Takes the zero points' share off the sums, scales them, and runs the body on every query."""
    code, buffers = k.code, k.buffers
    value_zero, weight_zero = k.param("value_zero_point"), k.param("weight_zero_point")
    both = code.b.mul(code.b.mul(value_zero, weight_zero), code.b.trunc(added, I32))
    scale = code.splat(k.param("scale"))

    def results(j: Value) -> Callable[[Value], Value]:
        lines = code.at(buffers.out, code.mul(j, 64))
        ones = code.load(vector(I32), code.at(lines, k.kernel.value_dim * _LINE), align=64)
        start = code.b.sub(code.splat(both), code.b.mul(ones, code.splat(value_zero)))

        def result(d: Value) -> Value:
            raw = code.load(vector(I32), code.at(lines, code.mul(d, _LINE)), align=64)
            share = code.b.mul(code.load(I32, code.at(buffers.value_sums, code.mul(d, 4))), weight_zero)
            exact = code.b.sub(code.b.add(raw, start), code.splat(share))
            return code.b.fmul(code.b.sitofp(exact, vector(F32)), scale)

        return result

    write_rows(k.frame, k.kernel, k.unit, results)
