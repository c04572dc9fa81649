"""Reads at computed places: embedding, index, gather, index_select. Every index is checked as it is read.

out[i…, d] = table[index[i…], d]                 embedding
out[i…, d…] = x[a[i…], d…, b[i…]]                index with tensors for some dims
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from .conditions import When
from .emission import Emission, Space
from .rearranged import REARRANGED, read_at
from .scalars import Elementwise

_A = torch.ops.aten


def _index(e: Emission, node: Node, space: Space) -> int:
    return e.cast(e.read(node, space), "i64")


def _part(space: Space, dims: slice) -> Space:
    """The space of a tensor whose dims are some of the space's own."""
    return Space(space.shape[dims], space.axes[dims], space.rank)


def _embedding(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    index = _index(e, given["indices"], _part(space, slice(0, -1)))
    return read_at(e, e.view(given["weight"]), space, {1: space.axes[-1]}, {0: index})


def _index_select(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    view, dim = e.view(given["self"]), given["dim"] % len(space.shape)
    index = _index(e, given["index"], _part(space, slice(dim, dim + 1)))
    own = {d: space.axes[d] for d in range(len(view.shape)) if d != dim}
    return read_at(e, view, space, own, {dim: index})


def _gather(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    view, dim = e.view(given["self"]), given["dim"] % len(space.shape)
    index = _index(e, given["index"], space)
    own = {d: space.axes[d] for d in range(len(view.shape)) if d != dim}
    return read_at(e, view, space, own, {dim: index})


def _index_tensor(e: Emission, node: Node, space: Space) -> int:
    """Indices broadcast to one shape. It stands where they stand if they are neighbours, and else in front."""
    given = arguments(node)
    view = e.view(given["self"])
    indexed = [d for d, index in enumerate(given["indices"]) if index is not None]
    others = [d for d in range(len(view.shape)) if d not in indexed]
    rank = len(space.shape) - len(others)
    first = indexed[0] if indexed[-1] - indexed[0] == len(indexed) - 1 else 0
    part = _part(space, slice(first, first + rank))
    rest = [*space.axes[:first], *space.axes[first + rank :]]
    places = {d: _index(e, given["indices"][d], part) for d in indexed}
    return read_at(e, view, space, dict(zip(others, rest, strict=True)), places, wraps=True)


def indexed_dims(node: Node) -> Mapping[int, Node]:
    """A gather's operands that are indices, by the dim of the table that each is for."""
    given = arguments(node)
    if node.target is _A.embedding.default:
        return {0: given["indices"]}
    if node.target is _A.index.Tensor:
        return {dim: index for dim, index in enumerate(given["indices"]) if index is not None}
    return {given["dim"] % node.meta["val"].dim(): given["index"]}


def tables_of(node: Node) -> tuple[Node, ...]:
    """The inputs that a gather reads at computed places, and so must lie in memory."""
    table = node.args[0] if node.target in GATHERS and node.args else None
    return (table,) if isinstance(table, Node) else ()


def _are_integers(indices: Sequence[Any]) -> bool:
    values = [index.meta["val"] for index in indices if isinstance(index, Node)]
    return bool(values) and all(value.dtype in (torch.int64, torch.int32) for value in values)


def _has_dims(node: Node) -> bool:
    value = node.meta["val"]
    return bool(value.dim() > 0)


_INTEGERS = When("integer indices, no masks", lambda node: _are_integers(arguments(node)["indices"]))
_DIMS = When("", _has_dims)

GATHERS: Mapping[Any, Elementwise] = {
    _A.embedding.default: Elementwise(_embedding, _DIMS),
    _A.index_select.default: Elementwise(_index_select, _DIMS),
    _A.gather.default: Elementwise(_gather, _DIMS),
    _A.index.Tensor: Elementwise(_index_tensor, _INTEGERS),
    **REARRANGED,
}
