"""Reading every element at its own place is movement.

index(x, [arange(b)[:, None, None, None], arange(n)])      ->   reshape(x, [b, 1, 1, n])       x[b, n]

So transformers look up padding masks, whose positions are the queries', keys' and batches' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, same_size, shape_of, source_of, tensor_of
from ..graph.edit import constant_of, insert, replace
from .shapes import size_at

_A = torch.ops.aten
_SAME_ORDER = (_A.reshape.default, _A.unsqueeze.default)


def spell_positions(module: GraphModule) -> None:
    """Rewrites `index` of which each operand counts through all of its dim, along dims in the same order."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.index.Tensor):
            _spell(module, node)


def _spell(module: GraphModule, node: Node) -> None:
    source, indices = source_of(node), node.args[1]
    assert isinstance(indices, (list, tuple))
    places = [_place(module, index, size) for index, size in zip(indices, shape_of(source), strict=False)]
    known = [place for place in places if place is not None]
    if len(known) != len(places) or sorted(set(known)) != known:
        return
    leading = len(shape_of(node)) - (len(shape_of(source)) - len(places))
    sizes: list[Any] = [1] * leading
    for dim, place in enumerate(known):
        sizes[place] = size_at(node, source, dim)
    sizes += [size_at(node, source, dim) for dim in range(len(places), len(shape_of(source)))]
    replace(node, insert(node, _A.reshape.default, (source, sizes), like=node))


def _place(module: GraphModule, index: Any, size: Any) -> int | None:
    """Along which of its dims, as from the last, the operand counts from 0 to below `size`; None if it does not."""
    if not isinstance(index, Node) or tensor_of(index).dtype == torch.bool:
        return None
    shape = shape_of(index)
    long = [d for d, extent in enumerate(shape) if not (isinstance(extent, int) and extent == 1)]
    if len(long) != 1 or not same_size(shape[long[0]], size):
        return None
    constant = constant_of(module, index)
    counts = _counts(index) if constant is None else bool((constant.flatten() == torch.arange(constant.numel())).all())
    return long[0] - len(shape) if counts else None


def _counts(node: Node) -> bool:
    """Whether the elements are 0, 1, 2, …"""
    while is_call(node, *_SAME_ORDER) or (is_call(node, _A.add.Tensor) and _adds_nothing(node)):
        node = source_of(node)
    return is_call(node, _A.arange.default) and not tensor_of(node).dtype.is_floating_point


def _adds_nothing(node: Node) -> bool:
    return isinstance(node.args[1], int) and node.args[1] == 0 and not tensor_of(node).dtype.is_floating_point
