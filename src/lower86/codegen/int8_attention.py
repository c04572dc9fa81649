"""Attention whose products are integer ones, with the softmax between them quantized, without the score matrix.

As in `attention.py`, lanes run along queries, and scores and output are kept transposed. Both products are the
register tile of contractions (`tile.py`), six rows by 32 queries:

    score[key][query]  = Σ_d u8(k)[key, d] · s8(q)[d][query]        queries packed once a unit, keys read in place
    out[dim][query]    = Σ_t u8(v)[t, dim] · s8(p)[t][query]        values transposed, weights packed

The weights are quantized after they have been divided by their sum, so a unit has two rounds: one over all scores, for
the maximum and the sum, and one that quantizes and adds up values. It holds the scores of up to 2048 keys in between,
fewer where heads are wide; of more, it computes them again for the second round.

Zero points come off the sums: each product needs the sums of its operands' integers. Those of a query are part of what
its scores begin with; those of keys and values are taken by themselves; those of the weights are the output of one more
dim, of ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..program.kernels import TILE_ROWS, Attention
from .attention import masked, write_rows
from .builder import F32, I32, LANES, Code, Value, vector
from .frame import Frame
from .int8_attention_operands import pack_queries, pack_values, quantize_weights, sum_keys
from .int8_attention_unit import COLUMNS, LINE, VECTORS, UnitCode
from .mathematics import softmax_weight


def emit_int8_attention(frame: Frame, kernel: Attention) -> None:
    """The whole kernel: up to 64 queries of one head."""
    assert kernel.integers is not None
    k = UnitCode(frame, kernel, kernel.integers)
    code, buffers, whole = frame.code, k.buffers, k.unit
    _fill_zero(code, buffers.zeros, VECTORS)
    with code.when(k.holds_all):
        _prepare_all(k)
    with code.loop(0, whole.count, COLUMNS) as first:
        batch, head, query = whole.where
        count = code.minimum(COLUMNS, code.sub(whole.count, first))
        k.unit = replace(whole, where=[batch, head, code.add(query, first)], count=count)
        _emit_queries(k)
    code.ret()


def _prepare_all(k: UnitCode) -> None:
    """What all queries of the unit need of keys and values, where it holds the scores of all."""
    code = k.code
    _fill_zero(code, k.buffers.value_sums, -(-k.kernel.value_dim // LANES))
    pack_values(k, code.i64(0), code.mul(code.div(code.add(k.unit.end, LANES - 1), LANES), LANES))
    sum_keys(k, code.i64(0))


def _emit_queries(k: UnitCode) -> None:
    """A few queries."""
    code, buffers, end = k.code, k.buffers, k.unit.end
    pack_queries(k)
    for value, buffer in ((float("-inf"), buffers.top), (0.0, buffers.total)):
        for j in range(VECTORS):
            code.store(code.constant(vector(F32), value), code.at(buffer, 64 * j), align=64)
    if not k.is_one_round:
        with code.when(code.b.or_(k.holds_some, code.less(end, 1))):
            _fill_zero(code, buffers.out, k.groups * TILE_ROWS * VECTORS)
            _fill_zero(code, buffers.value_sums, -(-k.kernel.value_dim // LANES))
    with code.loop(0, end, k.keys_held) as first:
        _scores(k, first)
    _scale_weights(k)
    added = code.variable(code.i64(0))
    with code.loop(0, end, k.keys_held) as first:
        length = code.minimum(k.keys_held, code.sub(end, first))
        padded = code.mul(code.div(code.add(length, LANES - 1), LANES), LANES)
        if not k.is_one_round:
            with code.when(k.holds_some):
                _scores(k, first)
                pack_values(k, first, padded)
        quantize_weights(k, length, padded)
        _add_values(k, padded)
        added.set(code.i64(code.add(added.get(), padded)))
    _write(k, added.get())


def _fill_zero(code: Code, pointer: Value, vectors: int) -> None:
    with code.loop(0, vectors) as i:
        code.store(code.constant(vector(I32), 0), code.at(pointer, code.mul(i, 64)), align=64)


def _scores(k: UnitCode, first: Value) -> None:
    """The scores of the keys from `first` on as exp(score - maximum so far), and what that makes of their sums."""
    code, unit = k.code, k.unit
    length = code.minimum(k.keys_held, code.sub(unit.end, first))
    if not k.is_one_round:
        with code.when(k.holds_some):
            sum_keys(k, first)
    k.for_vectors(lambda vectors: _scores_of(k, first, length, vectors))


def _scores_of(k: UnitCode, first: Value, length: Value | int, vectors: list[Value | int]) -> None:
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
        lines = code.at(buffers.scores, code.mul(t, LINE))

        def run(j: Value | int, count: int, lines: Value = lines) -> None:
            panel = code.at(buffers.queries, code.mul(j, LANES * k.isa.word))
            start, sums = (code.at(p, code.mul(j, 64)) for p in (buffers.start, lines))
            k.call_tile("scores", count, [buffers.entries, panel, start, sums], numbers)

        k.for_portions(vectors, run)
        for r, key in enumerate(keys):
            total = code.load(I32, code.at(buffers.key_sums, code.mul(code.sub(key, first), 4)))
            excess = code.splat(code.b.mul(total, query_zero))
            for j, place, top in zip(vectors, places, tops, strict=True):
                at = code.at(lines, code.add(place, r * LINE))
                exact = code.b.sub(code.load(vector(I32), at, align=64), excess)
                score = code.b.fmul(code.b.sitofp(exact, vector(F32)), factor)
                score = masked(k.frame, kernel, unit, (key, j), score)
                code.store(score, at, align=64)
                best = top.get()
                top.set(code.b.select(code.b.fcmp_ordered(">", score, best), score, best))
    _exponentials(k, length, places, [top.get() for top in tops])


def _exponentials(k: UnitCode, length: Value | int, places: list[Value | int], tops: list[Value]) -> None:
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
            at = code.at(buffers.scores, code.add(code.mul(t, LINE), place))
            weight = softmax_weight(code, code.b.fsub(code.load(vector(F32), at, align=64), best))
            code.store(weight, at, align=64)
            total.set(code.b.fadd(total.get(), weight))
    for place, (before, total) in zip(places, totals, strict=True):
        code.store(code.b.fadd(before, total.get()), code.at(buffers.total, place), align=64)


def _scale_weights(k: UnitCode) -> None:
    """What turns exponentials to steps of the weights: 0 where all keys are masked, and in a row that holds a NaN."""
    code, zero = k.code, k.code.constant(vector(F32), 0.0)
    inverse = code.splat(k.param("inverse_weight_scale"))
    for j in range(VECTORS):
        total = code.load(vector(F32), code.at(k.buffers.total, 64 * j), align=64)
        some = code.b.fcmp_ordered(">", total, zero)
        code.store(code.b.select(some, code.b.fdiv(inverse, total), zero), code.at(k.buffers.scale, 64 * j), align=64)


def _add_values(k: UnitCode, padded: Value | int) -> None:
    """out[dim][query] += Σ_t u8(v)[t, dim] · s8(p)[t][query]."""
    code, buffers, word = k.code, k.buffers, k.isa.word
    numbers: list[Value | int] = [word, 0, code.div(padded, word), word, word * buffers.dims, 1]

    def add(vectors: list[Value | int]) -> None:
        with code.loop(0, k.groups) as g:
            values = code.at(buffers.values, code.mul(g, TILE_ROWS * k.isa.word))
            lines = code.mul(g, TILE_ROWS * LINE)

            def run(j: Value | int, count: int) -> None:
                panel = code.at(buffers.weights, code.mul(j, LANES * k.isa.word))
                sums = code.at(buffers.sums, code.add(lines, code.mul(j, 64)))
                k.call_tile("values", count, [values, panel, buffers.zeros, sums], numbers)

            k.for_portions(vectors, run)

    k.for_vectors(add)
    if k.is_one_round:
        return
    with code.when(k.holds_some), code.loop(0, code.mul(k.groups * TILE_ROWS, VECTORS)) as i:
        at = code.at(buffers.out, code.mul(i, 64))
        some = code.load(vector(I32), code.at(buffers.sums, code.mul(i, 64)), align=64)
        code.store(code.b.add(code.load(vector(I32), at, align=64), some), at, align=64)


def _write(k: UnitCode, added: Value) -> None:
    """Takes the zero points' share off the sums, scales them, and runs the body on every query."""
    code, buffers = k.code, k.buffers
    value_zero, weight_zero = k.param("value_zero_point"), k.param("weight_zero_point")
    both = code.b.mul(code.b.mul(value_zero, weight_zero), code.b.trunc(added, I32))
    scale = code.splat(k.param("scale"))

    def results(j: Value) -> Callable[[Value], Value]:
        lines = code.at(buffers.out, code.mul(j, 64))
        ones = code.load(vector(I32), code.at(lines, k.kernel.value_dim * LINE), align=64)
        start = code.b.sub(code.splat(both), code.b.mul(ones, code.splat(value_zero)))

        def result(d: Value) -> Value:
            raw = code.load(vector(I32), code.at(lines, code.mul(d, LINE)), align=64)
            share = code.b.mul(code.load(I32, code.at(buffers.value_sums, code.mul(d, 4))), weight_zero)
            exact = code.b.sub(code.b.add(raw, start), code.splat(share))
            return code.b.fmul(code.b.sitofp(exact, vector(F32)), scale)

        return result

    write_rows(k.frame, k.kernel, k.unit, results)
