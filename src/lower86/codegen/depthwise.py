"""Depthwise convolutions: each channel by itself, channels as lanes.

Four neighbouring outputs are computed together. For each row of the kernel, the columns that any of them needs are
loaded and widened once; each tap's weights then meet those columns:

    acc[p] += x[p · stride + t] · w[t]          p = 0..3, 16 channels a vector

A 3 x 3 kernel of stride 1 takes 18 loads of x for 36 multiply-adds. Integers are widened to 32 bits, as pairs of 16
whose upper half counts nothing, so that one instruction multiplies and adds them. Exact on every instruction set. Where
registers hold 64 bytes, the dot product takes four taps at once instead: `depthwise_dots.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every

from ..program.dtypes import DTYPES
from ..program.kernels import DEPTHWISE_CHANNELS, Depthwise
from ..program.sizes import product
from .builder import F32, I8, I32, LANES, Value, Variable, vector
from .depthwise_dots import dot_sums
from .frame import Frame
from .packed import store_neighbours
from .pointwise import BodyEmitter, Point, steady_nodes
from .storage import load_vector

_TOGETHER = 4


def emit_depthwise(frame: Frame, kernel: Depthwise) -> None:
    """The whole kernel: `rows` rows of outputs by a group of channels."""
    code = frame.code
    if product(kernel.m) == 0:
        code.ret()  # there are no units either, and no rows to share out
        return
    groups = -(-kernel.channels // DEPTHWISE_CHANNELS)
    block, group = code.div(frame.unit, groups), code.rem(frame.unit, groups)
    total: Value | int = 1
    for size in kernel.m[:-1]:
        total = code.mul(total, frame.size(size))
    blocks = frame.size(kernel.blocks)
    first, last = (code.div(code.mul(part, total), blocks) for part in (block, code.add(block, 1)))
    width, first_channel = frame.size(kernel.m[-1]), code.mul(group, DEPTHWISE_CHANNELS)
    with code.loop(first, last) as row:
        outer = frame.split(row, kernel.m[:-1])

        def together(column: Value | int) -> None:
            _channels(frame, kernel, [*outer, column], first_channel, _TOGETHER)

        def alone() -> None:
            with code.loop(0, width) as column:
                _channels(frame, kernel, [*outer, column], first_channel, 1)

        if isinstance(width, int) and width < _TOGETHER:
            alone()
        else:
            enough = code.less(_TOGETHER - 1, width)
            with code.b.if_else(enough) as (many, few):
                with many, code.loop(0, width, _TOGETHER) as column:
                    # The last four overlap the ones before, if need be: what is computed twice is the same.
                    together(code.minimum(column, code.sub(width, _TOGETHER)))
                with few:
                    alone()
    code.ret()


def _channels(frame: Frame, kernel: Depthwise, index: Sequence[Value | int], first: Value | int, count: int) -> None:
    """`count` outputs next to each other, of the up to 64 channels from `first`."""
    code = frame.code
    if kernel.is_float or not code.module.isa.wide:
        end = code.minimum(kernel.channels, code.add(first, DEPTHWISE_CHANNELS))
        lanes = LANES if kernel.channels % LANES == 0 else None
        with code.loop(first, end, LANES) as channel:
            sums = [[total] for total in _sums(frame, kernel, index, channel, count)]
            _stores(frame, kernel, index, channel, sums, lanes)
        return

    def run(lanes: int) -> None:
        _stores(frame, kernel, index, first, dot_sums(frame, kernel, index, first, lanes, count), lanes)

    rest = kernel.channels % DEPTHWISE_CHANNELS
    if rest == 0 or kernel.channels < DEPTHWISE_CHANNELS:
        run(rest or DEPTHWISE_CHANNELS)
        return
    with code.b.if_else(code.less(first, kernel.channels - rest)) as (whole, narrow):
        with whole:
            run(DEPTHWISE_CHANNELS)
        with narrow:
            run(rest)


def _stores(
    frame: Frame,
    kernel: Depthwise,
    index: Sequence[Value | int],
    channel: Value | int,
    sums: Sequence[Sequence[Variable]],
    lanes: int | None,
) -> None:
    """The body for sums of neighbouring outputs by vectors of 16 channels, `lanes` in all if that is known."""
    code, body, dim = frame.code, kernel.body, len(kernel.m)
    as_float = not kernel.is_float and {node.dtype for node in body.nodes if node.op == "value"} == {"f32"}
    channels = [code.add(channel, LANES * v) for v in range(len(sums[0]))]
    masks = [_mask(frame, kernel, c, None if lanes is None else lanes - LANES * v) for v, c in enumerate(channels)]
    known = []
    for c, mask in zip(channels, masks, strict=True):
        steady = BodyEmitter(frame, body, Point([*index, c], dim, mask, {}))
        known.append({position: steady.node(position) for position in steady_nodes(body, dim)})
    for p, totals in enumerate(sums):
        emitters = []
        for total, c, mask, same in zip(totals, channels, masks, known, strict=True):
            value = code.b.sitofp(total.get(), vector(F32)) if as_float else total.get()
            place = [*index[:-1], code.add(index[-1], p), c]
            emitters.append(BodyEmitter(frame, body, Point(place, dim, mask, {0: value}), same))
        store_neighbours(emitters, lanes)


def _mask(frame: Frame, kernel: Depthwise, channel: Value | int, left: int | None) -> Value | None:
    """The lanes of a vector that are channels: `left` of them if that is known."""
    if left is not None:
        return None if left >= LANES else frame.code.lanes_below(left)
    return frame.code.lanes_below(frame.code.sub(kernel.channels, channel))


def _sums(frame: Frame, kernel: Depthwise, index: Sequence[Value | int], channel: Value, count: int) -> list[Variable]:
    code, left = frame.code, kernel.left
    mask = _mask(frame, kernel, channel, LANES if kernel.channels % LANES == 0 else None)
    size = DTYPES[kernel.kind].size if kernel.is_float else 1
    x: Value = code.at(frame.slots[left.slot], code.mul(channel, size))
    for i, stride in zip(index, left.m, strict=True):
        x = code.at(x, code.mul(i, code.mul(frame.size(stride), size)))
    *outer, inner = kernel.taps
    taps = inner
    for size_ in outer:
        taps *= size_
    weights = code.at(frame.slots[kernel.weight], code.mul(channel, 4 * taps))
    if kernel.is_float:
        start = code.constant(vector(F32), 0.0)
    else:
        start = code.load(vector(I32), code.at(frame.slots[kernel.start], code.mul(channel, 4)), align=64)
    sums = [code.variable(start) for _ in range(count)]
    # Columns of x, in units of the tap's stride, where outputs are a whole number of those apart; else one by one.
    step, apart = left.k[-1], left.m[-1]
    ratio = (
        apart // step if isinstance(step, int) and isinstance(apart, int) and step > 0 and apart % step == 0 else None
    )
    for number, place in enumerate(every(*(range(n) for n in outer))):
        row: Value = x
        for i, stride in zip(place, left.k[:-1], strict=True):
            row = code.at(row, code.mul(i, code.mul(frame.size(stride), size)))
        columns: dict[object, Value] = {}
        for t in range(inner):
            at = code.at(weights, 64 * (number * inner + t))
            weight = code.load(vector(F32 if kernel.is_float else I32), at, align=64)
            for p, total in enumerate(sums):
                key = (p, t) if ratio is None else p * ratio + t
                if key not in columns:
                    away = code.add(code.mul(frame.size(apart), p), code.mul(frame.size(step), t))
                    columns[key] = _widened(frame, kernel, code.at(row, code.mul(away, size)), mask)
                total.set(_multiply_add(frame, kernel, total.get(), columns[key], weight))
    return sums


def _widened(frame: Frame, kernel: Depthwise, pointer: Value, mask: Value | None) -> Value:
    code = frame.code
    if kernel.is_float:
        return load_vector(code, kernel.kind, pointer, mask)
    narrow = code.masked_load(I8, pointer, mask)
    if kernel.kind == "s8s8":
        narrow = code.b.xor(narrow, code.constant(narrow.type, -128))  # s8 as u8, 128 higher; `start` takes it back
    return code.b.zext(narrow, vector(I32))


def _multiply_add(frame: Frame, kernel: Depthwise, total: Value, x: Value, weight: Value) -> Value:
    if kernel.is_float:
        return frame.code.intrinsic("fma", x, weight, total)
    return frame.code.module.isa.multiply_add(frame.code, total, x, weight)
