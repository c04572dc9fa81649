"""What PyTorch's own kernels of bf16 and f16 compute in float32, spelled so."""

from __future__ import annotations

import torch
from torch.fx import Node

from ..graph.arguments import tensor_of
from ..graph.edit import insert

NARROW = (torch.bfloat16, torch.float16)
"""Floats that memory holds and that arithmetic has no use for."""
_CAST = torch.ops.aten._to_copy.default


def widened(node: Node, operand: Node) -> Node:
    """The operand, in float32 if it is narrower, by a node before `node`."""
    if tensor_of(operand).dtype not in NARROW:
        return operand
    return insert(node, _CAST, (operand,), {"dtype": torch.float32}, like=node)


def as_dtype(node: Node, result: Node, dtype: torch.dtype) -> Node:
    """The result in this dtype, by a node before `node`."""
    if tensor_of(result).dtype == dtype:
        return result
    return insert(node, _CAST, (result,), {"dtype": dtype}, like=node)
