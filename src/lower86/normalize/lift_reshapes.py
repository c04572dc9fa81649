"""A linear whose result is only seen in other rows computes those rows: what follows can be part of its kernel.

    reshape(linear(x, w, b), [*rows, n])  ->  linear(reshape(x, [*rows, k]), w, b)        x: [..., k], w: [n, k]

The reshape then meets the one that made `x` flat, or moves on over what quantizes it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, same_shape, shape_of, source_of
from ..graph.edit import insert, replace

_A = torch.ops.aten


def lift_reshapes(module: GraphModule) -> None:
    """Moves every reshape that keeps the columns of a linear, its only user, before that linear."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.reshape.default) and is_call(node.args[0], _A.linear.default):
            _lift(node, source_of(node))


def _lift(node: Node, linear: Node) -> None:
    columns, width = shape_of(linear)[-1], shape_of(source_of(linear))[-1]
    keeps_columns = same_shape(shape_of(node)[-1:], (columns,)) and isinstance(columns, int)
    if len(linear.users) != 1 or not keeps_columns or not isinstance(width, int) or 0 in (columns, width):
        return
    shape: Any = node.args[1]
    x = insert(node, _A.reshape.default, (source_of(linear), [*shape[:-1], width]), like=node)
    replace(node, insert(node, linear.target, (x, *linear.args[1:]), like=linear, value=node.meta["val"]))
