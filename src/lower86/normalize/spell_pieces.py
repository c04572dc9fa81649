"""Splitting and joining, in terms of slice and cat.

getitem(split(x, 64), 1)            ->  slice(x, dim, 64, 128)        likewise chunk, split_with_sizes, tensor_split
getitem(unbind(x), 1), unstack      ->  reshape(slice(x, dim, 1, 2))
stack([x, y], dim)                  ->  cat([unsqueezed x, unsqueezed y], dim)
"""

from __future__ import annotations

import operator
from itertools import accumulate
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import insert, replace
from .shapes import times

_A = torch.ops.aten
_SPLITS = (_A.split.Tensor, _A.split_with_sizes.default, _A.chunk.default, _A.unsafe_split.Tensor)


def spell_pieces(module: GraphModule) -> None:
    """Rewrites splits and stacks."""
    for node in list(module.graph.nodes):
        if is_call(node, *_SPLITS, _A.unbind.int):
            _spell_split(node)
        elif is_call(node, _A.stack.default):
            _spell_stack(node)


def _spell_split(node: Node) -> None:
    source, dim = node.args[0], arguments(node)["dim"]
    assert isinstance(source, Node)
    pieces = node.meta["val"]
    unbinds = is_call(node, _A.unbind.int)
    dim %= len(shape_of(source))
    sizes = [1 if unbinds else piece.shape[dim] for piece in pieces]
    starts = _starts(node, sizes)
    if starts is None:
        return
    for user in list(node.users):
        if user.target is not operator.getitem:
            continue
        number = user.args[1]
        assert isinstance(number, int)
        value = None if unbinds else pieces[number]
        start, end = starts[number : number + 2]
        piece = insert(user, _A.slice.Tensor, (source, dim, start, end, 1), like=node, value=value)
        if unbinds:
            piece = insert(user, _A.squeeze.dim, (piece, dim), like=node)
        replace(user, piece)


def _starts(node: Node, sizes: list[Any]) -> list[Any] | None:
    """Where each piece begins, and the last one ends: numbers, or nodes where that varies."""
    given: Any = node.args[1] if len(node.args) > 1 else None
    if all(isinstance(size, int) for size in sizes):
        return [0, *accumulate(sizes)]
    if is_call(node, _A.split.Tensor, _A.unsafe_split.Tensor):
        return [times(node, given, number) for number in range(len(sizes) + 1)]
    if not is_call(node, _A.split_with_sizes.default):
        return None
    starts: list[Any] = [0]
    for size in given:
        numbers = isinstance(starts[-1], int) and isinstance(size, int)
        starts.append(starts[-1] + size if numbers else insert(node, operator.add, (starts[-1], size), like=node))
    return starts


def _spell_stack(node: Node) -> None:
    given = arguments(node)
    dim = given["dim"] % len(shape_of(node))
    parts = [insert(node, _A.unsqueeze.default, (part, dim), like=node) for part in given["tensors"]]
    replace(node, insert(node, _A.cat.default, (parts, dim), like=node, value=node.meta["val"]))
