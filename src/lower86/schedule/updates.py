"""Operators that give back a tensor with some elements replaced, and how those are written to where it lies.

index_copy(x, dim, i, y)       ->  out[:, i[j]] = y[:, j]        slice_scatter(x, y, dim, 2, 5)  ->  out[:, 2:5] = y
index_put(x, [None, i], y)     ->  out[:, i[j]] = y[:, j]        select_scatter(x, y, dim, 2)    ->  out[:, 2] = y

The other elements, x has: whoever runs an update puts them there first, if they are not there already. Indices are
checked in a step of their own, so that an index out of range is found before anything is written. Of equal indices, any
may be the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.sizes import Size
from .conditions import When
from .emission import Emission, Space
from .memory import Memory, add_pointwise, computes_nothing
from .symbols import to_sizes
from .views import View, sliced, start_of

_A = torch.ops.aten


@dataclass(frozen=True)
class Update:
    """How the new elements are written, when that is known, and which operands are indices, by the dim they are for."""

    write: Callable[[Memory, Node, View], None]
    when: When
    indices: Callable[[Node], Mapping[int, Node]] = lambda node: {}
    wraps: bool = False


def indices_of(memory: Memory, node: Node) -> Mapping[int, View]:
    """The update's indices, checked; adds the steps that do it, if there are none yet."""
    update, shape = UPDATES[node.target], to_sizes(node.meta["val"].shape)
    return {dim: memory.checked(index, shape[dim], update.wraps, node) for dim, index in update.indices(node).items()}


def _copied_index(node: Node) -> Mapping[int, Node]:
    given = arguments(node)
    return {given["dim"] % node.meta["val"].dim(): given["index"]}


def _put_indices(node: Node) -> Mapping[int, Node]:
    return {d: index for d, index in enumerate(arguments(node)["indices"]) if index is not None}


def _index_copy(memory: Memory, node: Node, whole: View) -> None:
    given = arguments(node)
    ((dim, index),) = indices_of(memory, node).items()
    shape = (*whole.shape[:dim], index.shape[0], *whole.shape[dim + 1 :])
    _scatter(memory, node, given["source"], whole, shape, {dim: index}, dim)


def _index_put(memory: Memory, node: Node, whole: View) -> None:
    """Indices broadcast to one shape. It stands where they stand if they are neighbours, and else in front."""
    indices = indices_of(memory, node)
    shared = _broadcast([index.shape for index in indices.values()])
    dims = list(indices)
    first = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    others = [size for dim, size in enumerate(whole.shape) if dim not in indices]
    shape = (*others[:first], *shared, *others[first:])
    _scatter(memory, node, arguments(node)["values"], whole, shape, indices, first)


def _broadcast(shapes: Sequence[tuple[Size, ...]]) -> tuple[Size, ...]:
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*aligned, strict=True))


def _scatter(
    memory: Memory,
    node: Node,
    values: Node,
    whole: View,
    shape: tuple[Size, ...],
    indices: Mapping[int, View],
    first: int,
) -> None:
    """Writes `values`, broadcast to `shape`; the dims of the indices begin at `first` there."""
    source = memory.apart(memory.view(values), whole, f"copy for {node.name}")
    e, space = Emission(memory.plan, computes_nothing, memory.view), Space.of(shape)
    rank = len(shape) - (len(whole.shape) - len(indices))
    part = Space(shape[first : first + rank], space.axes[first : first + rank], space.rank)
    rest = iter((*space.axes[:first], *space.axes[first + rank :]))
    own = {dim: next(rest) for dim in range(len(whole.shape)) if dim not in indices}
    places = {dim: e.load(index, part) for dim, index in indices.items()}
    e.scatter(whole, space, e.load(source, space), own, places)
    add_pointwise(e, shape, node.name)


def _slice_scatter(memory: Memory, node: Node, whole: View) -> None:
    given = arguments(node)
    source = memory.view(given["src"])
    dim = given["dim"] % len(whole.shape)
    start = start_of(given["start"], whole.shape[dim])
    place = sliced(whole, dim, start, given["step"], source.shape[dim])
    _fill_part(memory, node, source, place)


def _select_scatter(memory: Memory, node: Node, whole: View) -> None:
    given = arguments(node)
    dim = given["dim"] % len(whole.shape)
    place = sliced(whole, dim, start_of(given["index"], whole.shape[dim]), 1, 1)
    shape, strides = (_without(sizes, dim) for sizes in (place.shape, place.strides))
    _fill_part(memory, node, memory.view(given["src"]), replace(place, shape=shape, strides=strides))


def _without(sizes: Sequence[Size], dim: int) -> tuple[Size, ...]:
    return (*sizes[:dim], *sizes[dim + 1 :])


def _fill_part(memory: Memory, node: Node, source: View, place: View) -> None:
    memory.plan.require_within(place)  # whatever sizes export admits, nothing beyond the value is written
    memory.fill(memory.apart(source, place, f"copy for {node.name}"), place, f"{node.name}, part")


def _copies_rows(node: Node) -> bool:
    given = arguments(node)
    rank = node.meta["val"].dim()
    index, source = given["index"].meta["val"], given["source"].meta["val"]
    return bool(rank > 0 and index.dim() == 1 and source.dim() == rank)


def _puts_at_integers(node: Node) -> bool:
    given = arguments(node)
    indices = [index.meta["val"] for index in given["indices"] if index is not None]
    integers = all(index.dtype in (torch.int64, torch.int32) for index in indices)
    return bool(indices) and integers and not given["accumulate"]


_ROWS = When("an index of one dim", _copies_rows)
_INTEGERS = When("integer indices, no masks; not accumulated", _puts_at_integers)
_STEPS = When("", lambda node: isinstance(arguments(node)["step"], int))
_DIMS = When("", lambda node: bool(node.meta["val"].dim() > 0))

UPDATES: Mapping[Any, Update] = {
    _A.index_copy.default: Update(_index_copy, _ROWS, _copied_index),
    _A.index_put.default: Update(_index_put, _INTEGERS, _put_indices, wraps=True),
    _A.slice_scatter.default: Update(_slice_scatter, _STEPS),
    _A.select_scatter.default: Update(_select_scatter, _DIMS),
}
