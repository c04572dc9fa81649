"""Int8 products of two activations: the right one is packed in every call, as constants are once, and then multiplied.

A step before the contraction writes the panels, what each column's sums begin with, and what comes off each row's.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from ..graph.arguments import arguments, tensor_of
from ..program.kernels import TILE_COLUMNS, Pack, Right, RowSums
from ..program.sizes import Size, ceil_div, contiguous_strides
from .emission import Emission, Space
from .memory import Memory
from .symbols import most, to_sizes
from .views import View, contiguous, expanded

_WORD = 4
"""The most k that a CPU has in a word."""
_WIDE_CHUNK = 32768
"""Terms of 255 x 128 that surely fit an int32 sum."""


def int8_operands(
    e: Emission, node: Node, memory: Memory, left: View, space: Space
) -> tuple[str, Right, int, int, int]:
    """The contraction's kind, its right operand, the slot of the starts, when sums widen, and the exact sum.

    The step that packs goes to the plan. `space` is that of the result.
    """
    given = arguments(node)
    right = _packable(memory.view(given["y"]), memory)
    kind = "s8s8" if left.dtype == "i8" else "u8s8"
    zero_points = given["x_zero_point"], given["y_zero_point"]
    wide = 0 if _fits(node, zero_points) else _WIDE_CHUNK
    dtype = "i64" if wide else "i32"
    first = zero_points[0] + (128 if left.dtype == "i8" else 0)
    second = zero_points[1] - (128 if right.dtype == "u8" else 0)

    batch = tuple(1 if stride == 0 else size for size, stride in _dims(right)[:-2])
    k, n = right.shape[-2:]
    panels = ceil_div(n, TILE_COLUMNS)
    packed = memory.plan.value("i8", (*batch, panels, ceil_div(k, _WORD), _WORD * TILE_COLUMNS))
    start = memory.plan.value(dtype, (*batch, panels, TILE_COLUMNS))
    slots = [(right.value, right.offset), (packed, 0), (start, 0)]
    rows = taken_off = None
    if second != 0:
        sizes = tuple(1 if stride == 0 else size for size, stride in _dims(left)[:-1])
        rows = RowSums(sizes, left.strides[:-1], left.dtype)
        taken_off = contiguous(memory.plan.value(dtype, (*sizes, 1)), dtype, (*sizes, 1))
        slots += [(left.value, left.offset), (taken_off.value, 0)]
    kernel = Pack(batch, k, n, right.strides, right.dtype, bool(wide), rows)
    memory.plan.step(kernel, slots, [("i32", first), ("i32", second)], f"operands of {node.name}")

    exact = e.body.add("value", (), dtype if taken_off or wide else "f32", (0,))
    if taken_off is not None:
        exact = e.call("sub", exact, e.load(taken_off, space))
    exact = e.cast(exact, "f32")
    if not wide:
        e.integers.add(exact)
    places = View(packed, "i8", batch, _panel_strides(batch, panels))
    leading = to_sizes(tensor_of(node).shape)[:-2]
    result = e.call("mul", exact, e.operand(given["scale"], "f32", space))
    return kind, Right(e.slot(packed), expanded(places, leading).strides, packed=True), e.slot(start), wide, result


def _packable(view: View, memory: Memory) -> View:
    """The view, copied if neither its rows nor its columns lie without gaps; a single column is one of k."""
    k_stride, n_stride = view.strides[-2:]
    if n_stride == 1 and (view.shape[-1] != 1 or k_stride != 1):
        return view
    if k_stride == 1:
        return view if n_stride != 1 else _with_strides(view, 1, 0)
    return memory.rows_of(view)


def _with_strides(view: View, k_stride: Size, n_stride: Size) -> View:
    return View(view.value, view.dtype, view.shape, (*view.strides[:-2], k_stride, n_stride), view.offset)


def _dims(view: View) -> list[tuple[Size, Size]]:
    return list(zip(view.shape, view.strides, strict=True))


def _panel_strides(batch: tuple[Size, ...], panels: Size) -> tuple[Size, ...]:
    return tuple(stride * panels for stride in contiguous_strides(batch))


def _fits(node: Node, zero_points: tuple[int, int]) -> bool:
    """Whether 32 bits hold whatever sum the operands can make."""
    given = arguments(node)
    terms = most(tensor_of(given["x"]).shape[-1])
    if terms is None:
        return False
    largest = 1
    for name, zero_point in zip(("x", "y"), zero_points, strict=True):
        limits = torch.iinfo(tensor_of(given[name]).dtype)
        largest *= max(zero_point - limits.min, limits.max - zero_point)
    return terms * largest < 2**31
