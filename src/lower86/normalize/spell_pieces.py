"""Splitting and joining, in terms of slice and cat.

getitem(split(x, 64), 1)            ->  slice(x, dim, 64, 128)        likewise chunk, split_with_sizes, tensor_split
getitem(unbind(x), 1), unstack      ->  reshape(slice(x, dim, 1, 2))
stack([x, y], dim)                  ->  cat([unsqueezed x, unsqueezed y], dim)
"""

from __future__ import annotations

import operator

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import insert, replace

_A = torch.ops.aten
_SPLITS = (_A.split.Tensor, _A.split_with_sizes.default, _A.chunk.default, _A.unsafe_split.Tensor)


def spell_pieces(module: GraphModule) -> None:
    """Rewrites splits of sizes that are known, and stacks."""
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
    if not all(isinstance(size, int) for size in sizes):
        return
    for user in list(node.users):
        if user.target is not operator.getitem:
            continue
        number = user.args[1]
        assert isinstance(number, int)
        start = sum(sizes[:number])
        piece = insert(user, _A.slice.Tensor, (source, dim, start, start + sizes[number], 1), like=node)
        if unbinds:
            piece = insert(user, _A.squeeze.dim, (piece, dim), like=node)
        replace(user, piece)


def _spell_stack(node: Node) -> None:
    given = arguments(node)
    dim = given["dim"] % len(shape_of(node))
    parts = [insert(node, _A.unsqueeze.default, (part, dim), like=node) for part in given["tensors"]]
    replace(node, insert(node, _A.cat.default, (parts, dim), like=node, value=node.meta["val"]))
