"""Reductions of a tensor without dims: there is nothing to reduce.

sum(x), amax(x), …  ->  x, as the result's dtype        any(x), all(x)  ->  x, as a bool and then as the result's dtype
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, shape_of, tensor_of
from ..graph.edit import insert, replace

_A = torch.ops.aten
_TRUTHS = (_A.any.default, _A.any.dim, _A.all.default, _A.all.dim)
REDUCTIONS = (
    *_TRUTHS, _A.sum.default, _A.sum.dim_IntList, _A.mean.default, _A.mean.dim, _A.prod.default, _A.prod.dim_int,
    _A.max.default, _A.min.default, _A.amax.default, _A.amin.default,
)  # fmt: skip


def spell_scalars(module: GraphModule) -> None:
    """Rewrites reductions of tensors without dims."""
    for node in list(module.graph.nodes):
        source = node.args[0] if is_call(node, *REDUCTIONS) else None
        if isinstance(source, Node) and not shape_of(source):
            dtype = {"dtype": tensor_of(node).dtype}
            if is_call(node, *_TRUTHS):
                source = insert(node, _A._to_copy.default, (source,), {"dtype": torch.bool}, like=node)
            replace(node, insert(node, _A._to_copy.default, (source,), dtype, like=node, value=node.meta["val"]))
