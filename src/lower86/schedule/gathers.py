"""Reads at computed places: embedding, index, gather, index_select. Every index is checked as it is read.

out[i…, d] = table[index[i…], d]                 embedding
out[i…]    = x[a[i…], b[i…], …]                  index with tensors for leading dims
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.sizes import Size
from .emission import Emission, Space
from .views import View

_A = torch.ops.aten


def _index(e: Emission, node: Node, space: Space) -> int:
    return e.cast(e.read(node, space), "i64")


def _part(space: Space, dims: slice, shape: tuple[Size, ...]) -> Space:
    """The space of a tensor whose dims are some of the space's own."""
    return Space(shape, space.positions[dims], space.rank)


def _read(
    e: Emission,
    view: View,
    space: Space,
    own: Mapping[int, int | None],
    places: Mapping[int, int],
    wraps: bool = False,
) -> int:
    """The view's element: dim d is at the body's dim own[d], or at the index node places[d]."""
    strides: list[Size] = [0] * space.rank
    for dim, position in own.items():
        if position is not None and view.shape[dim] != 1:
            strides[position] = view.strides[dim]
    computed = tuple((view.strides[dim], view.shape[dim]) for dim in places)
    attrs = (e.view_slot(view), tuple(strides), computed, wraps)
    return e.body.add("gather", tuple(places.values()), view.dtype, attrs)


def _embedding(e: Emission, node: Node, space: Space) -> int:
    table, indices = node.args[0], node.args[1]
    assert isinstance(table, Node)
    assert isinstance(indices, Node)
    view = e.view(table)
    index = _index(e, indices, _part(space, slice(0, -1), space.shape[:-1]))
    return _read(e, view, space, {1: space.positions[-1]}, {0: index})


def _index_select(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    view, dim = e.view(given["self"]), given["dim"] % len(space.shape)
    index = _index(e, given["index"], _part(space, slice(dim, dim + 1), space.shape[dim : dim + 1]))
    own = {d: space.positions[d] for d in range(len(view.shape)) if d != dim}
    return _read(e, view, space, own, {dim: index})


def _gather(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    view, dim = e.view(given["self"]), given["dim"] % len(space.shape)
    index = _index(e, given["index"], space)
    own = {d: space.positions[d] for d in range(len(view.shape)) if d != dim}
    return _read(e, view, space, own, {dim: index})


def _index_tensor(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    view, indices = e.view(given["self"]), list(given["indices"])
    count = len(indices)
    rest = len(view.shape) - count
    leading = len(space.shape) - rest
    front = _part(space, slice(0, leading), space.shape[:leading])
    places = {d: _index(e, indices[d], front) for d in range(count)}
    own = {count + i: space.positions[leading + i] for i in range(rest)}
    return _read(e, view, space, own, places, wraps=True)


def tables_of(node: Node) -> tuple[Node, ...]:
    """The inputs that a gather reads at computed places, and so must lie in memory."""
    return (node.args[0],) if node.target in GATHERS and isinstance(node.args[0], Node) else ()


def is_leading_index(node: Node) -> bool:
    """Whether an `index` has integer tensors for its leading dims alone, the case that is native."""
    indices = list(arguments(node)["indices"])
    return all(isinstance(i, Node) and i.meta["val"].dtype in (torch.int64, torch.int32) for i in indices)


GATHERS: Mapping[Any, Callable[[Emission, Node, Space], int]] = {
    _A.embedding.default: _embedding,
    _A.index_select.default: _index_select,
    _A.gather.default: _gather,
    _A.index.Tensor: _index_tensor,
}
