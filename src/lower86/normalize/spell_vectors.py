"""Products of vectors as products of matrices of one row or column.

    mv(a, v), matmul(a, v)      ->  reshape(matmul(a, reshape(v, [k, 1])))
    matmul(v, a)                ->  reshape(matmul(reshape(v, [1, k]), a))
    dot(u, v), matmul(u, v)     ->  sum(mul(u, v))
    addmv(b, a, v, beta, alpha) ->  add(mul(b, beta), mul(mv(a, v), alpha))

An integer sum of products stays one: kernels multiply matrices of floats alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import insert, replace
from .precision import NARROW
from .shapes import size_at

_A = torch.ops.aten
VECTORS = (_A.mv.default, _A.dot.default, _A.vdot.default, _A.addmv.default, _A.matmul.default)


def spell_vectors(module: GraphModule) -> None:
    """Rewrites products with an operand of one dim."""
    for node in list(module.graph.nodes):
        if is_call(node, *VECTORS) and tensor_of(node).dtype in (torch.float32, *NARROW):
            by = _sum(node) if is_call(node, _A.addmv.default) else _product(node, *list(arguments(node).values())[:2])
            if by is not None:
                replace(node, by)


def _product(node: Node, left: Node, right: Node) -> Node | None:
    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    ranks = len(shape_of(left)), len(shape_of(right))
    if ranks == (1, 1):
        return call(_A.sum.dim_IntList, call(_A.mul.Tensor, left, right), [0])
    if 1 not in ranks:
        return None
    if ranks[1] == 1:
        column = call(_A.reshape.default, right, [size_at(node, right, 0), 1])
        return call(_A.squeeze.dim, call(_A.matmul.default, left, column), -1)
    row = call(_A.reshape.default, left, [1, size_at(node, left, 0)])
    return call(_A.squeeze.dim, call(_A.matmul.default, row, right), -2)


def _sum(node: Node) -> Node | None:
    given = arguments(node)
    product = _product(node, given["mat"], given["vec"])
    assert product is not None
    parts = [insert(node, _A.mul.Tensor, (part, factor), like=node) if factor != 1 else part
             for part, factor in ((given["self"], given["beta"]), (product, given["alpha"]))]  # fmt: skip
    return parts[1] if given["beta"] == 0 else insert(node, _A.add.Tensor, tuple(parts), like=node)
