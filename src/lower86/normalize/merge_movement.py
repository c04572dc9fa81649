"""Movement of movement is one movement, and none if everything stays where it is.

permute(permute(x, a), b)  ->  permute(x, a∘b)       reshape(reshape(x, a), b)  ->  reshape(x, b)
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, order_of, same_shape, shape_of, source_of
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
    source, order = source_of(node), order_of(node)
    if is_call(source, _A.permute.default):
        inner = order_of(source)
        order = [inner[d] for d in order]
        source = source_of(source)
    if order == list(range(len(order))):
        replace(node, source)
    elif source is not node.args[0]:
        replace(node, insert(node, _A.permute.default, (source, order), like=node, value=node.meta["val"]))


def _merge_reshape(node: Node) -> None:
    source, shape = source_of(node), node.args[1]
    while is_call(source, _A.reshape.default):
        source = source_of(source)
    sizes = shape_of(node)
    if same_shape(shape_of(source), sizes):
        replace(node, source)
        return
    node.args = (source, list(sizes) if all(isinstance(size, int) for size in sizes) else shape)
