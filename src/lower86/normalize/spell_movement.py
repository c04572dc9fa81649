"""One spelling for each movement.

    t, transpose                ->  permute          view, _unsafe_view, unsqueeze, squeeze, flatten    ->  reshape
    select                      ->  slice + reshape

A view becomes a reshape because a graph whose copies are gone may have to copy where the view did not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import insert, replace

_A = torch.ops.aten
_VIEWS = (
    _A.view.default, _A._unsafe_view.default, _A.unsqueeze.default, _A.squeeze.default, _A.squeeze.dim,
    _A.squeeze.dims, _A.flatten.using_ints, _A.unflatten.int, _A.view_copy.default, _A.unsqueeze_copy.default,
)  # fmt: skip


def spell_movement(module: GraphModule) -> None:
    """Rewrites movement to permute, view, expand and slice."""
    for node in list(module.graph.nodes):
        source = node.args[0] if node.op == "call_function" and node.args else None
        if not isinstance(source, Node):
            continue
        if is_call(node, _A.t.default, _A.transpose.int, _A.numpy_T.default):
            replace(node, insert(node, _A.permute.default, (source, _order(node)), like=node))
        elif is_call(node, *_VIEWS):
            _reshape(node, source)
        elif is_call(node, _A.select.int, _A.select_copy.int):
            _spell_select(node, source)


def _reshape(node: Node, source: Node) -> None:
    """The node as a reshape of `source`: dynamic sizes are read off the source where it has them, one may be -1."""
    if is_call(node, _A.view.default, _A._unsafe_view.default):
        given: Any = node.args[1]
        shape = list(given)
    else:
        shape = [_size(node, source, size) for size in shape_of(node)]
    if shape.count(-1) <= 1:
        replace(node, insert(node, _A.reshape.default, (source, shape), like=node, value=node.meta["val"]))


def _size(node: Node, source: Node, size: Any) -> Any:
    if isinstance(size, int):
        return size
    for dim, other in enumerate(shape_of(source)):
        if not isinstance(other, int) and other.node.expr == size.node.expr:
            return insert(node, _A.sym_size.int, (source, dim), like=node, value=other)
    return -1


def _order(node: Node) -> list[int]:
    given = arguments(node)
    rank = len(shape_of(node))
    order = list(range(rank))
    if "dim0" in given:
        if rank:
            a, b = given["dim0"] % rank, given["dim1"] % rank
            order[a], order[b] = order[b], order[a]
        return order
    return order[::-1]


def _spell_select(node: Node, source: Node) -> None:
    given = arguments(node)
    dim, index = given["dim"], given["index"]
    size = shape_of(source)[dim]
    if not isinstance(index, int) or not isinstance(size, int):
        return
    index += size if index < 0 else 0
    _reshape(node, insert(node, _A.slice.Tensor, (source, dim, index, index + 1, 1), like=node))
