"""Float attention without the score matrix: blocks of 64 queries against blocks of 64 keys, softmax as it goes.

Lanes run along queries. Scores and output are kept transposed ([key][query] and [dim][query]), which makes every step
of the softmax an operation between whole vectors, and lets both products use the same register tile: 4 rows by 64
columns,

    score[key r][query] += broadcast(k[r, d]) · q[d][query]      out[dim r][query] += broadcast(v[t, r]) · p[t][query]

so keys and values are read in place, whatever their strides. Queries are transposed once going in, the output once
going out, 16 x 16 in registers. With more than one block of keys the running maximum grows; sums and output so far are
scaled by exp(old - new) (the online softmax of Milakov and Gimelshein, arXiv:1805.02867). A row whose keys are all
masked is 0, as in PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..program.dtypes import DTYPES
from ..program.kernels import TILE_COLUMNS, Attention
from ..program.sizes import Size
from .builder import F32, LANES, Code, Value, Variable, vector
from .frame import Frame
from .mathematics import softmax_weight
from .pointwise import BodyEmitter, Point, lane_loop
from .storage import load_everywhere, load_vector

_KEYS = 64
_ROWS = 4
_VECTORS = TILE_COLUMNS // LANES
_LINE = TILE_COLUMNS * 4  # bytes of one row of a transposed buffer


@dataclass(frozen=True)
class _Buffers:
    """A unit's own memory, transposed: [row][64 queries] of f32."""

    q: Value
    scores: Value
    out: Value
    top: Value
    total: Value


@dataclass(frozen=True)
class Unit:
    """What a unit computes: `count` queries of one head from the one at `where` (batch, head, query), up to key `end`.

    `q`, `k` and `v` are where the rows of its head begin, a row's bytes apart.
    """

    where: Sequence[Value | int]
    count: Value | int
    end: Value | int
    q: Value
    k: Value
    v: Value


def unit_of(frame: Frame, kernel: Attention) -> Unit:
    """The unit that the frame is about."""
    code, size = frame.code, 1 if kernel.integers else DTYPES[kernel.dtype].size
    queries, keys, heads = frame.size(kernel.queries), frame.size(kernel.keys), frame.size(kernel.heads)
    blocks = code.div(code.add(queries, TILE_COLUMNS - 1), TILE_COLUMNS)
    first = code.mul(code.rem(frame.unit, blocks), TILE_COLUMNS)
    rest = code.div(frame.unit, blocks)
    head, batch = code.rem(rest, heads), code.div(rest, heads)
    key_head = code.div(head, kernel.groups)
    count = code.minimum(TILE_COLUMNS, code.sub(queries, first))
    end = code.minimum(keys, code.add(first, TILE_COLUMNS)) if kernel.causal else keys

    def rows(slot: int, index: Value | int, strides: Sequence[Size]) -> Value:
        pointer = frame.slots[slot]
        for i, stride in zip((batch, index), strides, strict=False):
            pointer = code.at(pointer, code.mul(i, code.mul(frame.size(stride), size)))
        return pointer

    places = rows(0, head, kernel.q), rows(1, key_head, kernel.k), rows(2, key_head, kernel.v)
    return Unit([batch, head, first], count, end, *places)


def emit_attention(frame: Frame, kernel: Attention) -> None:
    """The whole kernel: up to 64 queries of one head."""
    code, unit = frame.code, unit_of(frame, kernel)

    def rows(lines: int) -> Value:
        return code.stack(vector(F32), lines * _VECTORS)

    value_rows = -(-kernel.value_dim // LANES) * LANES
    buffers = _Buffers(rows(-(-kernel.head_dim // LANES) * LANES), rows(_KEYS), rows(value_rows), rows(1), rows(1))
    _transpose_queries(frame, kernel, unit, buffers.q)
    minus_infinity, zero = code.constant(vector(F32), float("-inf")), code.constant(vector(F32), 0.0)
    for j in range(_VECTORS):
        code.store(minus_infinity, code.at(buffers.top, 64 * j), align=64)
        code.store(zero, code.at(buffers.total, 64 * j), align=64)
    with code.loop(0, value_rows * _VECTORS) as i:
        code.store(zero, code.at(buffers.out, code.mul(i, 64)), align=64)

    with code.loop(0, unit.end, _KEYS) as key:
        length = code.minimum(_KEYS, code.sub(unit.end, key))
        tops = _scores(frame, kernel, unit, (key, length), buffers)
        _softmax_step(code, key, length, value_rows, tops, buffers)
        _add_values(frame, kernel, key, length, unit.v, buffers)
    _write(frame, kernel, unit, buffers)
    code.ret()


def _transpose_queries(frame: Frame, kernel: Attention, unit: Unit, buffer: Value) -> None:
    """buffer[d][query] = scale · q[query, d]; queries beyond the last repeat it, and are never written out."""
    code, queries = frame.code, frame.size(kernel.queries)
    scale = code.splat(frame.param(0, "f32"))
    size = DTYPES[kernel.dtype].size
    row_bytes = code.mul(frame.size(kernel.q[2]), size)
    with code.loop(0, _VECTORS) as j:
        start = code.add(unit.where[2], code.mul(j, LANES))

        def block(d: Value, mask: Value | None) -> None:
            lines = []
            for r in range(LANES):
                row = code.minimum(code.add(start, r), code.sub(queries, 1))
                at = code.at(code.at(unit.q, code.mul(row, row_bytes)), code.mul(d, size))
                lines.append(code.b.fmul(load_vector(code, kernel.dtype, at, mask), scale))
            place = code.at(code.at(buffer, code.mul(d, _LINE)), code.mul(j, 64))
            for r, line in enumerate(code.transpose(lines)):
                code.store(line, code.at(place, r * _LINE), align=64)

        lane_loop(frame, kernel.head_dim, 0, block)


def _tile(code: Code, initial: Sequence[Value]) -> list[Variable]:
    return [code.variable(value) for value in initial]


def _accumulate(code: Code, tile: list[Variable], dtype: str, rows: Sequence[Value], line: Value) -> None:
    """tile[r][j] += rows[r] · line[j] for as many vectors of queries as the tile holds."""
    count = len(tile) // len(rows)
    vectors = [code.load(vector(F32), code.at(line, 64 * j), align=64) for j in range(count)]
    for r, pointer in enumerate(rows):
        broadcast = load_everywhere(code, dtype, pointer)
        for j in range(count):
            total = tile[r * count + j]
            total.set(code.intrinsic("fma", broadcast, vectors[j], total.get()))


def _parts(code: Code) -> list[range]:
    """The vectors of a line of 64 queries, in the portions whose sums the registers hold."""
    portion = code.module.isa.vectors
    return [range(first, first + portion) for first in range(0, _VECTORS, portion)]


def _scores(
    frame: Frame,
    kernel: Attention,
    unit: Unit,
    block: tuple[Value, Value | int],
    buffers: _Buffers,
) -> list[Variable]:
    """scores[t][query] for the block's keys; rows beyond the last key are -inf. Gives each query's maximum so far."""
    code, (key, length), end = frame.code, block, unit.end
    size = DTYPES[kernel.dtype].size
    row_bytes = code.mul(frame.size(kernel.k[2]), size)
    zero, minus_infinity = code.constant(vector(F32), 0.0), code.constant(vector(F32), float("-inf"))
    tops = [code.variable(code.load(vector(F32), code.at(buffers.top, 64 * j), align=64)) for j in range(_VECTORS)]
    with code.loop(0, length, _ROWS) as t:
        rows = []
        for r in range(_ROWS):
            row = code.minimum(code.add(key, code.add(t, r)), code.sub(end, 1))
            rows.append(code.at(unit.k, code.mul(row, row_bytes)))
        for part in _parts(code):
            tile = _tile(code, [zero] * (_ROWS * len(part)))
            with code.loop(0, kernel.head_dim) as d:
                queries = code.at(buffers.q, code.add(code.mul(d, _LINE), 64 * part.start))
                _accumulate(code, tile, kernel.dtype, [code.at(row, code.mul(d, size)) for row in rows], queries)
            for r, j in itertools.product(range(_ROWS), part):
                position = code.add(key, code.add(t, r))
                score = masked(frame, kernel, unit, (position, j), tile[r * len(part) + j - part.start].get())
                score = code.b.select(code.splat(code.less(position, end)), score, minus_infinity)
                code.store(score, code.at(buffers.scores, code.add(code.mul(code.add(t, r), _LINE), 64 * j)), align=64)
                # In this order a NaN is no maximum; its weight is NaN all the same, and so is the row.
                top = tops[j].get()
                tops[j].set(code.b.select(code.b.fcmp_ordered(">", score, top), score, top))
    return tops


def masked(frame: Frame, kernel: Attention, unit: Unit, place: tuple[Value | int, Value | int], score: Value) -> Value:
    """The scores of one key and a vector of queries as the mask leaves them."""
    code, (key, j) = frame.code, place
    minus_infinity = code.constant(vector(F32), float("-inf"))
    query = code.i64(code.add(unit.where[2], code.mul(j, LANES)))
    if kernel.causal:
        lanes = code.b.add(code.splat(query), code.iota())
        score = code.b.select(code.b.icmp_signed(">=", lanes, code.splat(code.i64(key))), score, minus_infinity)
    if kernel.mask is not None:
        left = code.lanes_below(code.sub(frame.size(kernel.queries), query))
        exact = code.i64(code.minimum(key, code.sub(unit.end, 1)))
        emitter = BodyEmitter(frame, kernel.mask, Point([*unit.where[:2], query, exact], 2, left))
        mask = code.splat(emitter.node(kernel.mask_node))
        if kernel.mask.nodes[kernel.mask_node].dtype == "bool":
            score = code.b.select(mask, score, minus_infinity)
        else:
            score = code.b.fadd(score, mask)
    return score


def _softmax_step(
    code: Code, key: Value, length: Value | int, value_rows: int, tops: Sequence[Variable], buffers: _Buffers
) -> None:
    """Turns the block's scores into exp(score - maximum), and scales what was summed under the old maximum."""
    minus_infinity, zero = code.constant(vector(F32), float("-inf")), code.constant(vector(F32), 0.0)
    scales = []
    for j, top in enumerate(tops):
        # Where every key so far is masked, -inf - (-inf) would be NaN: measure from 0 there.
        best = top.get()
        best = code.b.select(code.b.fcmp_ordered("==", best, minus_infinity), zero, best)
        at = code.at(buffers.top, 64 * j)
        scales.append(softmax_weight(code, code.b.fsub(code.load(vector(F32), at, align=64), best)))
        code.store(top.get(), at, align=64)
        top.set(best)
    for part in _parts(code):
        # The block by itself first: thousands of small numbers, one by one, would lose what a large sum cannot hold.
        totals = [code.variable(zero) for _ in part]
        with code.loop(0, length) as t:
            for total, j in zip(totals, part, strict=True):
                at = code.at(buffers.scores, code.add(code.mul(t, _LINE), 64 * j))
                score = code.load(vector(F32), at, align=64)
                weight = softmax_weight(code, code.b.fsub(score, tops[j].get()))
                code.store(weight, at, align=64)
                total.set(code.b.fadd(total.get(), weight))
        for total, j in zip(totals, part, strict=True):
            at = code.at(buffers.total, 64 * j)
            before = code.b.fmul(code.load(vector(F32), at, align=64), scales[j])
            code.store(code.b.fadd(before, total.get()), at, align=64)
    with code.when(code.less(0, key)), code.loop(0, value_rows) as d:  # nothing has been summed before the first block
        for j, scale in enumerate(scales):
            at = code.at(buffers.out, code.add(code.mul(d, _LINE), 64 * j))
            code.store(code.b.fmul(code.load(vector(F32), at, align=64), scale), at, align=64)


def _add_values(
    frame: Frame, kernel: Attention, key: Value, length: Value | int, v_at: Value, buffers: _Buffers
) -> None:
    """out[d][query] += Σ_t v[t, d] · weight[t][query], the sum by itself first."""
    code = frame.code
    zero = code.constant(vector(F32), 0.0)
    size = DTYPES[kernel.dtype].size
    row_bytes = code.mul(frame.size(kernel.v[2]), size)
    block = code.at(v_at, code.mul(key, row_bytes))
    with code.loop(0, kernel.value_dim, _ROWS) as d:
        lines = code.at(buffers.out, code.mul(d, _LINE))
        columns = [code.minimum(code.add(d, r), kernel.value_dim - 1) for r in range(_ROWS)]
        for part in _parts(code):
            places = [code.at(lines, r * _LINE + 64 * j) for r in range(_ROWS) for j in part]
            tile = _tile(code, [zero] * len(places))
            with code.loop(0, length) as t:
                row = code.at(block, code.mul(t, row_bytes))
                pointers = [code.at(row, code.mul(column, size)) for column in columns]
                weights = code.at(buffers.scores, code.add(code.mul(t, _LINE), 64 * part.start))
                _accumulate(code, tile, kernel.dtype, pointers, weights)
            for place, total in zip(places, tile, strict=True):
                code.store(code.b.fadd(code.load(vector(F32), place, align=64), total.get()), place, align=64)


def _write(frame: Frame, kernel: Attention, unit: Unit, buffers: _Buffers) -> None:
    """Divides by the sums and runs the body on every query."""
    code = frame.code
    zero, one = code.constant(vector(F32), 0.0), code.constant(vector(F32), 1.0)

    def results(j: Value) -> Callable[[Value], Value]:
        total = code.load(vector(F32), code.at(buffers.total, code.mul(j, 64)), align=64)
        # 0 · (1 / 1): a row with no key is 0.
        scale = code.b.fdiv(one, code.b.select(code.b.fcmp_ordered("==", total, zero), one, total))
        lines = code.at(buffers.out, code.mul(j, 64))
        return lambda d: code.b.fmul(code.load(vector(F32), code.at(lines, code.mul(d, _LINE)), align=64), scale)

    write_rows(frame, kernel, unit, results)


def write_rows(
    frame: Frame, kernel: Attention, unit: Unit, results: Callable[[Value], Callable[[Value], Value]]
) -> None:
    """Runs the body on every query; `results` gives for a vector of queries what gives each dim's results of them."""
    code = frame.code
    line = code.stack(vector(F32), LANES)
    with code.loop(0, code.div(code.add(unit.count, LANES - 1), LANES)) as j:
        result = results(j)

        def block(d: Value, mask: Value | None) -> None:
            for r, row in enumerate(code.transpose([result(code.add(d, r)) for r in range(LANES)])):
                code.store(row, code.at(line, 64 * r), align=64)
            left = code.minimum(LANES, code.sub(unit.count, code.mul(j, LANES)))
            with code.loop(0, left) as r:
                value = code.load(vector(F32), code.at(line, code.mul(r, 64)), align=64)
                query = code.add(unit.where[2], code.add(code.mul(j, LANES), r))
                point = Point([*unit.where[:2], query, d], 3, mask, {0: value})
                BodyEmitter(frame, kernel.body, point).stores()

        lane_loop(frame, kernel.value_dim, 0, block)
