"""Batch norm at inference is a product and a sum with constants, one of each a channel (dim 1).

    batch_norm(x, weight, bias, mean, variance, eps)[0]   ->   x * a + b      a = weight / sqrt(variance + eps)
                                                                              b = bias - mean * a

The order is PyTorch's own on CPUs. A linear or convolution in front of it takes both in as part of its epilogue.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace

_A = torch.ops.aten


def spell_batch_norm(module: GraphModule) -> None:
    """Rewrites batch norms whose statistics and parameters are constants."""
    for node in list(module.graph.nodes):
        if is_call(node, _A._native_batch_norm_legit_no_training.default):
            _spell(module, node)


def _spell(module: GraphModule, node: Node) -> None:
    given = arguments(node)
    mean, variance = (constant_of(module, given[name]) for name in ("running_mean", "running_var"))
    weight, bias = (constant_of(module, given[name]) for name in ("weight", "bias"))
    unknown = (given["weight"] is not None and weight is None) or (given["bias"] is not None and bias is None)
    if mean is None or variance is None or unknown or tensor_of(given["input"]).dtype != torch.float32:
        return
    firsts = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    if len(firsts) != len(node.users):
        return
    a = 1 / torch.sqrt(variance + given["eps"])
    a = a if weight is None else a * weight
    b = -mean * a if bias is None else bias - mean * a
    shape = [1, -1, *[1] * (len(shape_of(given["input"])) - 2)]
    for first in firsts:
        value: Any = first.meta["val"]
        factor = insert_constant(module, node, a.reshape(shape), "_batch_norm_factor")
        offset = insert_constant(module, node, b.reshape(shape), "_batch_norm_offset")
        scaled = insert(node, _A.mul.Tensor, (given["input"], factor), like=node)
        replace(first, insert(node, _A.add.Tensor, (scaled, offset), like=node, value=value))
