"""Movement of movement is one movement, and none if everything stays where it is.

    permute(permute(x, a), b)  ->  permute(x, a∘b)       reshape(reshape(x, a), b)  ->  reshape(x, b)
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, same_shape, shape_of
from ..graph.edit import insert, replace

_A = torch.ops.aten


def merge_movement(module: GraphModule) -> None:
    """Merges permutes with permutes, reshapes with reshapes; sizes that are known are spelled out."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.permute.default):
            _merge_permute(node)
        elif is_call(node, _A.reshape.default):
            _merge_reshape(node)


def _merge_permute(node: Node) -> None:
    source: Any = node.args[0]
    rank = len(shape_of(node))
    order = [d % rank for d in node.args[1]]  # type: ignore[union-attr,operator]
    if is_call(source, _A.permute.default):
        order = [source.args[1][d] % rank for d in order]
        source = source.args[0]
    if order == list(range(rank)):
        replace(node, source)
    elif source is not node.args[0]:
        replace(node, insert(node, _A.permute.default, (source, order), like=node, value=node.meta["val"]))


def _merge_reshape(node: Node) -> None:
    source, shape = node.args
    assert isinstance(source, Node)
    while is_call(source, _A.reshape.default):
        source = source.args[0]  # type: ignore[assignment]
    if same_shape(shape_of(source), shape_of(node)):
        replace(node, source)
        return
    sizes = shape_of(node)
    node.args = (source, list(sizes) if all(isinstance(size, int) for size in sizes) else shape)
