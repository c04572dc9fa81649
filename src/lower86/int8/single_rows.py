"""A float product of one row with a transposed matrix is sums along the rows of that matrix, read where they lie.

matmul(q [.., 1, k], permute(y [.., n, k]))   ->   permute(sum(mul(q, y), -1, keepdim))

So the scores of one query with all keys of a cache: for the contraction the keys would have to be turned over, all of
them at every call, which takes five times as long as multiplying them.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, is_float32, order_of, same_size, shape_of, source_of
from ..graph.edit import insert, replace

_A = torch.ops.aten


def spell_single_rows(module: GraphModule) -> None:
    """Rewrites every such product of activations."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.matmul.default):
            left, right = node.all_input_nodes[0], node.all_input_nodes[-1]
            if is_float32(node) and _is_row(left) and _is_turned(right):
                replace(node, _sums(node, left, right))


def _is_row(left: Node) -> bool:
    return len(shape_of(left)) >= 2 and same_size(shape_of(left)[-2], 1)


def _is_turned(right: Node) -> bool:
    """Whether what lies along the rows of `right` lies along the columns of the tensor that it is a permute of."""
    if len(shape_of(right)) < 3 or not is_call(right, _A.permute.default):
        return False
    order = order_of(right)
    return order[-2] == len(order) - 1 and is_float32(source_of(right))


def _sums(node: Node, left: Node, right: Node) -> Node:
    *leading, k, n = order_of(right)
    order, rows = [*leading, n, k], source_of(right)
    if order != sorted(order):
        rows = insert(node, _A.permute.default, (rows, order), like=node)
    products = insert(node, _A.mul.Tensor, (left, rows), like=node)
    sums = insert(node, _A.sum.dim_IntList, (products, [-1], True), like=node)
    dims = list(range(len(shape_of(sums))))
    return insert(node, _A.permute.default, (sums, [*dims[:-2], dims[-1], dims[-2]]), like=node)
