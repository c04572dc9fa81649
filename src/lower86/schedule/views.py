"""Movement as strides: how a node's elements lie in a buffer, and what permute, view, expand and slice make of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
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


def reshaped(view: View, shape: tuple[Size, ...]) -> View | None:
    """`view` in another shape, or None where that takes a copy.

    Runs of dims that lie evenly spaced in memory count as one; each run must be covered by whole new dims.
    """
    if product(view.shape) == 0 or product(shape) == 0:
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


def moved(node: Node, view: View) -> View | None:
    """What a movement node makes of its source's view, or None where that takes a copy."""
    given = arguments(node)
    shape = to_sizes(node.meta["val"].shape)
    if node.target is _A.permute.default:
        return permuted(view, list(given["dims"]))
    if node.target is _A.expand.default:
        return expanded(view, shape)
    if node.target is _A.slice.Tensor:
        dim = given["dim"]
        size = view.shape[dim]
        start = _start(given["start"], size)
        return None if start is None else sliced(view, dim, start, given["step"], shape[dim])
    return reshaped(view, shape)


def _start(start: Any, size: Size) -> Size | None:
    if start is None:
        return 0
    if isinstance(start, Node):
        start = start.meta["val"]
    position = to_size(start)
    if not isinstance(position, int):
        return position
    if position < 0:
        from_end: Size = position + size
        return max(from_end, 0) if isinstance(from_end, int) else from_end
    return min(position, size) if isinstance(size, int) else position


PERMUTE = _A.permute.default
MOVEMENT = (_A.reshape.default, PERMUTE, _A.expand.default, _A.slice.Tensor)
