"""Movement as strides: how a node's elements lie in a buffer, and what permute, view, expand and slice make of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..ops.windows import windows as windows_operator
from ..program.sizes import Size, contiguous_strides, product
from .symbols import to_size, to_sizes

_A = torch.ops.aten


@dataclass(frozen=True)
class View:
    """Elements of value number `value`: the one at `index` lies at `offset + Σ index·strides`, in elements."""

    value: int
    dtype: str
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size = 0

    @property
    def is_contiguous(self) -> bool:
        """Whether elements lie row by row without gaps."""
        wanted = contiguous_strides(self.shape)
        return all(size == 1 or a == b for size, a, b in zip(self.shape, self.strides, wanted, strict=True))


def contiguous(value: int, dtype: str, shape: tuple[Size, ...]) -> View:
    """The whole of a value."""
    return View(value, dtype, shape, contiguous_strides(shape))


def permuted(view: View, order: list[int]) -> View:
    """`view` with its dims in another order."""
    rank = len(view.shape)
    dims = [d % rank for d in order]
    return replace(view, shape=tuple(view.shape[d] for d in dims), strides=tuple(view.strides[d] for d in dims))


def transposed(view: View) -> View:
    """`view` with its last two dims changed around."""
    rank = len(view.shape)
    return permuted(view, [*range(rank - 2), rank - 1, rank - 2])


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes `order`."""
    return [list(order).index(d) for d in range(len(order))]


def expanded(view: View, shape: tuple[Size, ...]) -> View:
    """`view` broadcast to `shape`: new and repeated dims have stride 0."""
    missing = len(shape) - len(view.shape)
    strides: list[Size] = [0] * missing
    for size, stride, wanted in zip(view.shape, view.strides, shape[missing:], strict=True):
        strides.append(0 if size == 1 and wanted != 1 else stride)
    return replace(view, shape=shape, strides=tuple(strides))


def sliced(view: View, dim: int, start: Size, step: int, size: Size) -> View:
    """Every `step`-th index of `dim` from `start`."""
    dim %= len(view.shape)
    shape = (*view.shape[:dim], size, *view.shape[dim + 1 :])
    strides = (*view.strides[:dim], view.strides[dim] * step, *view.strides[dim + 1 :])
    return replace(view, shape=shape, strides=strides, offset=view.offset + start * view.strides[dim])


def indexed(view: View, dim: int, index: Size) -> View:
    """Index `index` of `dim`, which goes away."""
    one = sliced(view, dim, index, 1, 1)
    return replace(one, shape=(*one.shape[:dim], *one.shape[dim + 1 :]), strides=_without(one.strides, dim))


def reshaped(view: View, shape: tuple[Size, ...]) -> View | None:
    """`view` in another shape, or None where that takes a copy.

    Runs of dims that lie evenly spaced in memory count as one; each run must be covered by whole new dims.
    """
    # Where sizes vary, what export knows of them need not show in the expressions: of a whole buffer, all is possible.
    if view.is_contiguous or product(view.shape) == 0 or product(shape) == 0:
        return replace(view, shape=shape, strides=contiguous_strides(shape))
    runs: list[tuple[Size, Size]] = []  # (elements, innermost stride)
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == stride * size:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    strides: list[Size] = [0] * len(shape)
    dim = len(shape) - 1
    for elements, stride in reversed(runs):
        covered: Size = 1
        while covered != elements:
            while dim >= 0 and shape[dim] == 1:
                dim -= 1
            if dim < 0:
                return None
            strides[dim] = stride * covered
            covered = covered * shape[dim]
            if isinstance(covered, int) and isinstance(elements, int) and elements % covered:
                return None
            dim -= 1
    return replace(view, shape=shape, strides=tuple(strides))


def diagonal(view: View, offset: int, first: int, second: int, size: Size) -> View:
    """The elements whose indices along two dims differ by `offset`, as a last dim of their own."""
    rank = len(view.shape)
    first, second = first % rank, second % rank
    others = [d for d in range(rank) if d not in (first, second)]
    moves = view.strides[second] * offset if offset >= 0 else view.strides[first] * -offset
    return replace(
        view,
        shape=(*(view.shape[d] for d in others), size),
        strides=(*(view.strides[d] for d in others), view.strides[first] + view.strides[second]),
        offset=view.offset + (moves if size != 0 else 0),
    )


def windows(view: View, dim: int, step: int, count: Size, size: int) -> View:
    """Windows of `size` along a dim, every `step` elements, their elements as a last dim; they may overlap."""
    if not view.shape:
        return replace(view, shape=(size,), strides=(1,))
    outer = sliced(view, dim, 0, step, count)
    return replace(outer, shape=(*outer.shape, size), strides=(*outer.strides, view.strides[dim % len(view.shape)]))


def _permute(node: Node, view: View) -> View:
    return permuted(view, list(arguments(node)["dims"]))


def _expand(node: Node, view: View) -> View:
    return expanded(view, to_sizes(node.meta["val"].shape))


def _slice(node: Node, view: View) -> View:
    given, shape = arguments(node), to_sizes(node.meta["val"].shape)
    dim = given["dim"]
    return sliced(view, dim, start_of(given["start"], view.shape[dim]), given["step"], shape[dim])


def _select(node: Node, view: View) -> View:
    given = arguments(node)
    dim = given["dim"] % len(view.shape)
    return indexed(view, dim, start_of(given["index"], view.shape[dim]))


def _without(strides: tuple[Size, ...], dim: int) -> tuple[Size, ...]:
    return (*strides[:dim], *strides[dim + 1 :])


def _unfold(node: Node, view: View) -> View:
    given = arguments(node)
    dim = given["dimension"] % max(len(view.shape), 1)
    count = to_sizes(node.meta["val"].shape)[dim]  # the result has one dim more, after the source's
    return windows(view, dim, given["step"], count, given["size"])


def _diagonal(node: Node, view: View) -> View:
    given, shape = arguments(node), to_sizes(node.meta["val"].shape)
    return diagonal(view, given["offset"], given["dim1"], given["dim2"], shape[-1])


def _windows(node: Node, view: View) -> View:
    given: Mapping[str, Any] = node.kwargs
    first = len(view.shape) - len(given["kernel"])
    counts = to_sizes(node.meta["val"].shape)[first : len(view.shape)]
    for i, (size, gap) in enumerate(zip(given["kernel"], given["dilation"], strict=True)):
        stride = view.strides[first + i]
        view = replace(view, offset=view.offset - stride * given["low"][i])
        view = sliced(view, first + i, 0, given["stride"][i], counts[i])
        view = replace(view, shape=(*view.shape, size), strides=(*view.strides, stride * gap))
    return view


def _reshape(node: Node, view: View) -> View | None:
    return reshaped(view, to_sizes(node.meta["val"].shape))


MOVEMENT: Mapping[Any, Callable[[Node, View], View | None]] = {
    _A.reshape.default: _reshape,
    _A.permute.default: _permute,
    _A.expand.default: _expand,
    _A.slice.Tensor: _slice,
    _A.select.int: _select,
    _A.unfold.default: _unfold,
    _A.diagonal.default: _diagonal,
    windows_operator: _windows,
}
"""Operators that only say where elements are: what each makes of its source's view, or None where that takes a copy."""
PERMUTE = _A.permute.default


def moved(node: Node, view: View) -> View | None:
    """What a movement node makes of its source's view, or None where that takes a copy."""
    return MOVEMENT[node.target](node, view)


def room_of(node: Node, before: View, after: View) -> list[Size]:
    """What must not be negative, so that a slice or a select of a view stays within it: what is left around it."""
    given = arguments(node)
    if node.target is _A.slice.Tensor:
        dim = given["dim"] % len(before.shape)
        start, last = start_of(given["start"], before.shape[dim]), (after.shape[dim] - 1) * given["step"]
    elif node.target is _A.select.int:
        dim, last = given["dim"] % len(before.shape), 0
        start = start_of(given["index"], before.shape[dim])
    else:
        return []
    return [start, before.shape[dim] - 1 - start - last]


def start_of(start: Any, size: Size) -> Size:
    """Where a slice that begins at `start`, a number or the node of one, begins in a dim of `size`."""
    if isinstance(start, Node):
        start = start.meta["val"]
    if start is None:
        return 0
    position = to_size(start)
    # Whether a size known at the call is negative, export has decided by its example, for all sizes that it admits.
    example = start if isinstance(start, int) else start.node.hint
    if example is not None and example < 0:
        position = position + size
    if not isinstance(position, int):
        return position
    return max(0, min(position, size) if isinstance(size, int) else position)
