"""A mask that is known, and says what the operator can say by itself, goes.

attention(q, k, v, mask)   ->   attention(q, k, v)                    where the mask is all True, or all 0.0
attention(q, k, v, mask)   ->   attention(q, k, v, is_causal=True)    where it is True up to each query's own place
where(mask, x, y)          ->   x                                     where the mask is all True
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, broadcasts_to, is_call, same_shape, shape_of, tensor_of
from ..graph.edit import constant_of, replace

_A = torch.ops.aten


def spell_masks(module: GraphModule) -> None:
    """Simplifies the attention and the selections whose masks are constants."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.scaled_dot_product_attention.default):
            _spell_attention(module, node)
        elif is_call(node, _A.where.self, _A.where.ScalarOther):
            _drop_selection(module, node)


def _spell_attention(module: GraphModule, node: Node) -> None:
    given = arguments(node)
    mask = constant_of(module, given["attn_mask"])
    if mask is None or given["is_causal"]:
        return
    queries, keys = shape_of(given["query"]), shape_of(given["key"])
    if not broadcasts_to(mask.shape, (*queries[:-1], keys[-2])):
        return  # PyTorch refuses it
    if _leaves_all(mask):
        node.args = node.args[:3]
    elif mask.dtype == torch.bool and _is_causal(mask, node):
        node.args = node.args[:3]
        node.kwargs = {**node.kwargs, "is_causal": True}


def _leaves_all(mask: Tensor) -> bool:
    return bool(mask.all() if mask.dtype == torch.bool else (mask == 0).all())


def _is_causal(mask: Tensor, node: Node) -> bool:
    given = arguments(node)
    queries, keys = shape_of(given["query"])[-2], shape_of(given["key"])[-2]
    if mask.dim() < 2 or not same_shape(mask.shape[-2:], (queries, keys)):
        return False
    return bool((mask == torch.ones(mask.shape[-2:], dtype=torch.bool).tril()).all())


def _drop_selection(module: GraphModule, node: Node) -> None:
    condition: Any
    chosen: Any
    condition, chosen, _ = node.args
    mask = constant_of(module, condition)
    if mask is None or mask.dtype != torch.bool or not isinstance(chosen, Node) or not bool(mask.all()):
        return
    if same_shape(shape_of(chosen), shape_of(node)) and tensor_of(chosen).dtype == tensor_of(node).dtype:
        replace(node, chosen)
