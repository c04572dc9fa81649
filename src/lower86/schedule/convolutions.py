"""Convolutions as contractions: rows are output points, the sum runs over taps and channels.

The input is read in place, channels last, with a halo where it is padded: the elements of one sum are a few runs of
memory, for a 3 x 3 kernel three runs of 3·c, for 1 x 1 one of c. Nothing is copied into columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.fx import Node

from ..graph.arguments import arguments
from ..ops.conv import int8_conv
from ..program.kernels import DEPTHWISE_CHANNELS, TILE_COLUMNS, TILE_ROWS, Contraction, Depthwise, Left, Right
from ..program.program import Packing
from ..program.sizes import Size, ceil_div, product
from .contractions import column_start, float_packing, row_blocks, scaled
from .emission import Axis, Emission, Finish, Space, coalesced
from .geometry import Convolution, Phase, convolution_of, phases
from .layout import Halo
from .memory import Memory
from .symbols import to_sizes
from .views import View

_MOST_TAPS = 512
"""Taps that a depthwise kernel writes out one after another: code grows with them."""
EmitKernel = Callable[[Emission, Finish], "Contraction | Depthwise"]
_SMALLEST_DEPTHWISE = 1 << 15
"""Multiply-accumulates of a depthwise unit, a microsecond or so."""


def convolution_kernels(memory: Memory, node: Node) -> list[EmitKernel]:
    """How to emit each kernel of a convolution node: one, or for a transposed convolution one a phase."""
    convolution = convolution_of(node)
    assert convolution is not None
    weight = memory.constant(convolution.weight)
    assert weight is not None
    if convolution.is_turned:
        weight = _turned(weight, convolution.groups)
    outputs = to_sizes(node.meta["val"].shape)[2:]
    dims = zip(weight.shape[2:], convolution.stride, convolution.low, convolution.dilation, convolution.spread, outputs,
               strict=True)  # fmt: skip
    combinations = itertools.product(*(phases(*dim) for dim in dims))

    emit = _emit_depthwise if _is_depthwise(convolution, weight) else _emit
    parts = [_Part(node, convolution, _chosen_taps(weight, chosen), chosen) for chosen in combinations]
    return [partial(emit, memory, part) for part in parts]


@dataclass(frozen=True)
class _Part:
    """One kernel's share of a convolution: a phase a spatial dim, and their taps of the weight [n, c/groups, taps…]."""

    node: Node
    convolution: Convolution
    taps: Tensor
    phases: Sequence[Phase]

    @property
    def is_integer(self) -> bool:
        return self.node.target is int8_conv

    @property
    def halo(self) -> Halo:
        return Halo(*self.convolution.halo, self.convolution.fill)

    def axes(self, first: int) -> list[Axis]:
        """How the output's spatial dims follow from the body's, which are `first` and those after it."""
        return [Axis(((dim, p.every),), p.start) for dim, p in enumerate(self.phases, start=first)]


def _is_depthwise(convolution: Convolution, weight: Tensor) -> bool:
    """Whether every channel, of several, has one weight a tap, few enough to write out one after another."""
    return weight.shape[:2] == (convolution.groups, 1) and weight.shape[0] > 1 and weight[0].numel() <= _MOST_TAPS


def _turned(weight: Tensor, groups: int) -> Tensor:
    channels, columns, *taps = weight.shape
    apart = weight.reshape(groups, channels // groups, columns, *taps).transpose(1, 2)
    return apart.reshape(groups * columns, channels // groups, *taps).flip(list(range(2, weight.dim())))


def _emit(memory: Memory, part: _Part, e: Emission, finish: Finish) -> Contraction:
    groups, taps, integer = part.convolution.groups, part.taps, part.is_integer
    shape = to_sizes(part.node.meta["val"].shape)
    columns, channels = taps.shape[0] // groups, taps.shape[1]

    # The body's dims: groups, batch, output points, columns of a group.
    rank = len(shape) + 1
    space = Space(shape, (Axis.along(1), Axis(((0, columns), (rank - 1, 1))), *part.axes(2)), rank)
    sizes = (groups, shape[0], *(p.count for p in part.phases), columns)

    x = memory.with_halo(part.convolution.x, part.halo, slack=integer)
    read = _left(e, x, part.phases)
    left_strides = (channels, *read.m, 0)
    k_sizes, k_strides = _runs([*taps.shape[2:], channels], [*read.k, 1])
    taps_last = taps.permute(0, *range(2, taps.dim()), 1)
    packed = taps_last.reshape(groups, columns, math.prod(k_sizes[:-1]), k_sizes[-1])

    kind, start_slot, wide, result = _value(e, memory, part, space, packed, x.dtype)
    constant = e.plan.constant(packed, Packing("int8_panels" if integer else float_packing(packed)))
    right_slot = e.slot(constant)
    finish(result, space)

    right_strides = (ceil_div(columns, TILE_COLUMNS), *[0] * (rank - 1))
    barriers = [rank - 1] if groups == 1 else [1, rank - 1]
    body, sizes, (left_strides, right_strides) = coalesced(
        e.body.build(), sizes, [left_strides, right_strides], barriers
    )
    first = 0 if groups == 1 else 1
    left = Left(read.slot, left_strides[:first], left_strides[first:-1], k_strides, slack=integer)
    right = Right(right_slot, right_strides[:first], packed=True)
    rows = 2 if wide else TILE_ROWS
    m, rest = product(sizes[first:-1]), product(x.shape) + product(shape)
    # As for linears, but taps may meet the same element of x.
    below = m + 1 if isinstance(m, int) and isinstance(rest, int) and packed.numel() > 2 * rest else 0
    blocks = row_blocks(m, sizes[-1], product(k_sizes), rows, below, product(x.shape))
    return Contraction(
        kind, sizes[:first], sizes[first:-1], sizes[-1], k_sizes, left, right, start_slot, wide, body, blocks, below
    )


def _emit_depthwise(memory: Memory, part: _Part, e: Emission, finish: Finish) -> Depthwise:
    shape, taps = to_sizes(part.node.meta["val"].shape), part.taps
    channels = taps.shape[0]
    # The body's dims: batch, output points, channels.
    space = Space(shape, (Axis.along(0), Axis.along(len(shape) - 1), *part.axes(1)), len(shape))
    m = (shape[0], *(p.count for p in part.phases))
    x = memory.with_halo(part.convolution.x, part.halo)
    left = _left(e, x, part.phases)
    packed = taps.flatten(1)
    kind, start, wide, result = _value(e, memory, part, space, packed, x.dtype)
    assert not wide
    packing = Packing("depthwise", taps.shape[-1], shared=left.m[-1] == left.k[-1])
    slot = e.slot(e.plan.constant(packed if part.is_integer else packed.float(), packing))
    finish(result, space)
    rows = _depthwise_rows(product(m[:-1]), m[-1] * min(channels, DEPTHWISE_CHANNELS) * packed.shape[1])
    return Depthwise(kind, m, channels, tuple(taps.shape[2:]), left, slot, start, e.body.build(), rows)


def _depthwise_rows(count: Size, work: Size) -> int:
    """Rows of a unit, of so many multiply-accumulates each: few enough that threads get equal parts of all rows."""
    if not isinstance(work, int):
        return 1
    enough = _SMALLEST_DEPTHWISE // max(1, work)
    return max(1, min(enough, count // 8) if isinstance(count, int) else enough)


def _left(e: Emission, x: View, chosen: Sequence[Phase]) -> Left:
    """How outputs of these phases read x: a stride for each output point's dim, and for each tap's."""
    offset = x.offset
    for p, stride in zip(chosen, x.strides[2:], strict=True):
        offset = offset + p.first * stride
    slot = e.view_slot(replace(x, offset=offset))
    points = tuple(p.stride * stride for p, stride in zip(chosen, x.strides[2:], strict=True))
    taps = tuple(p.step * stride for p, stride in zip(chosen, x.strides[2:], strict=True))
    return Left(slot, (), (x.strides[0], *points), taps)


def _chosen_taps(weight: Tensor, chosen: Sequence[Phase]) -> Tensor:
    """The taps of one phase; perhaps none."""
    for dim, phase in enumerate(chosen, start=2):
        weight = weight.index_select(dim, torch.tensor(list(phase.taps), dtype=torch.int64))
    return weight


def _runs(sizes: Sequence[int], strides: Sequence[Size]) -> tuple[tuple[int, ...], tuple[Size, ...]]:
    """Dims of k without those of size 1, neighbours merged where they lie as one."""
    merged: list[tuple[int, Size]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if merged and merged[-1][1] == stride * size:
            merged[-1] = (merged[-1][0] * size, stride)
        elif merged and merged[-1][0] == 1:
            merged[-1] = (size, stride)
        else:
            merged.append((size, stride))
    return tuple(size for size, _ in merged), tuple(stride for _, stride in merged)


def _value(
    e: Emission, memory: Memory, part: _Part, space: Space, packed: Tensor, dtype: str
) -> tuple[str, int, int, int]:
    """The contraction's kind, the slot of its start, how wide its sums are, and the node of the result."""
    given = arguments(part.node)

    def by_channel(operand: Node) -> int:
        view, rest = memory.view(operand), len(space.shape) - 2
        along = replace(view, shape=(*view.shape, *[1] * rest), strides=(*view.strides, *[0] * rest))
        return e.load(along, space)

    kind, start_slot, wide = dtype, 0, 0
    result = e.body.add("value", (), "f32", (0,))
    bias = by_channel(given["bias"]) if given["bias"] is not None else None
    if part.is_integer:
        kind = "s8s8" if dtype == "i8" else "u8s8"
        zero_point = given["x_zero_point"] + (128 if kind == "s8s8" else 0)
        start, wide = column_start(packed, zero_point)
        start_slot = e.slot(e.plan.constant(start))
        if not wide:
            e.integers.add(result)
        result = scaled(e, result, by_channel(given["scale"]), bias)
    elif bias is not None:
        result = e.call("add", result, bias)
    return kind, start_slot, wide, result
