"""Depthwise convolutions: each channel by itself, channels as lanes.

Four neighbouring outputs are computed together. For each row of the kernel, the columns that any of them needs are
loaded and widened once; each tap's weights then meet those columns:

    acc[p] += x[p · stride + t] · w[t]          p = 0..3, 16 channels a vector

A 3 x 3 kernel of stride 1 takes 18 loads of x for 36 multiply-adds. Integers are widened to 32 bits, as pairs of 16
whose upper half counts nothing, so that one instruction multiplies and adds them. Exact on every instruction set.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every

from ..program.kernels import DEPTHWISE_CHANNELS, Depthwise
from .builder import F32, I8, I32, LANES, Value, Variable, vector
from .frame import Frame
from .pointwise import BodyEmitter, Point, steady_nodes

_TOGETHER = 4


def emit_depthwise(frame: Frame, kernel: Depthwise) -> None:
    """The whole kernel: `rows` rows of outputs by a group of channels."""
    code = frame.code
    groups = -(-kernel.channels // DEPTHWISE_CHANNELS)
    block, group = code.div(frame.unit, groups), code.rem(frame.unit, groups)
    total: Value | int = 1
    for size in kernel.m[:-1]:
        total = code.mul(total, frame.size(size))
    blocks = frame.size(kernel.blocks)
    first, last = (code.div(code.mul(part, total), blocks) for part in (block, code.add(block, 1)))
    width = code.i64(frame.size(kernel.m[-1]))
    whole = code.b.and_(width, code.i64(-_TOGETHER))
    first_channel = code.mul(group, DEPTHWISE_CHANNELS)
    end = code.minimum(kernel.channels, code.add(first_channel, DEPTHWISE_CHANNELS))
    with code.loop(first, last) as row:
        outer = frame.split(row, kernel.m[:-1])
        with code.loop(0, whole, _TOGETHER) as column, code.loop(first_channel, end, LANES) as channel:
            _outputs(frame, kernel, [*outer, column], channel, _TOGETHER)
        with code.loop(whole, width) as column, code.loop(first_channel, end, LANES) as channel:
            _outputs(frame, kernel, [*outer, column], channel, 1)
    code.ret()


def _outputs(frame: Frame, kernel: Depthwise, index: Sequence[Value | int], channel: Value, count: int) -> None:
    """`count` outputs next to each other, of 16 channels."""
    code = frame.code
    mask = code.lanes_below(code.sub(kernel.channels, channel)) if kernel.channels % LANES else None
    sums = _sums(frame, kernel, index, channel, mask, count)
    lane = len(kernel.m)
    body, wanted = kernel.body, {node.dtype for node in kernel.body.nodes if node.op == "value"}
    steady = BodyEmitter(frame, body, Point([*index, channel], lane, mask, {}))
    known = {position: steady.node(position) for position in steady_nodes(body, lane)}
    for p, total in enumerate(sums):
        value = total.get()
        if kernel.kind != "f32" and wanted == {"f32"}:
            value = code.b.sitofp(value, vector(F32))
        place = [*index[:-1], code.add(index[-1], p), channel]
        BodyEmitter(frame, body, Point(place, lane, mask, {0: value}), known).stores()


def _sums(
    frame: Frame, kernel: Depthwise, index: Sequence[Value | int], channel: Value, mask: Value | None, count: int
) -> list[Variable]:
    code, left = frame.code, kernel.left
    size = 4 if kernel.kind == "f32" else 1
    x: Value = code.at(frame.slots[left.slot], code.mul(channel, size))
    for i, stride in zip(index, left.m, strict=True):
        x = code.at(x, code.mul(i, code.mul(frame.size(stride), size)))
    *outer, inner = kernel.taps
    taps = inner
    for size_ in outer:
        taps *= size_
    weights = code.at(frame.slots[kernel.weight], code.mul(channel, 4 * taps))
    if kernel.kind == "f32":
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
            weight = code.load(vector(F32 if kernel.kind == "f32" else I32), at, align=64)
            for p, total in enumerate(sums):
                key = (p, t) if ratio is None else p * ratio + t
                if key not in columns:
                    away = code.add(code.mul(frame.size(apart), p), code.mul(frame.size(step), t))
                    columns[key] = _widened(frame, kernel, code.at(row, code.mul(away, size)), mask)
                total.set(_multiply_add(frame, kernel, total.get(), columns[key], weight))
    return sums


def _widened(frame: Frame, kernel: Depthwise, pointer: Value, mask: Value | None) -> Value:
    code = frame.code
    if kernel.kind == "f32":
        return code.masked_load(F32, pointer, mask)
    narrow = code.masked_load(I8, pointer, mask)
    return code.b.sext(narrow, vector(I32)) if kernel.kind == "s8s8" else code.b.zext(narrow, vector(I32))


def _multiply_add(frame: Frame, kernel: Depthwise, total: Value, x: Value, weight: Value) -> Value:
    if kernel.kind == "f32":
        return frame.code.intrinsic("fma", x, weight, total)
    return frame.code.module.isa.multiply_add(frame.code, total, x, weight)
