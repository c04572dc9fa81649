"""Dequantizes that no rule took in and that no kernel knows as they are: plain arithmetic.

In PyTorch's order, but in float32 throughout, or in float64 where the result is float64.

dequantize_per_token(q, scales, zeros)          ->  (q - zeros) · scales
    where scales = embedding(table, i)          ->  embedding(table, expanded to q's columns, i)
dequantize_per_tensor(q, scale tensor, zero)    ->  (float(q) - zero) · scale
dequantize_per_channel(q, scales, zeros, axis)  ->  (q - zeros) · scales, along the axis

A table that is expanded takes no memory, and what is looked up in it has q's shape, as what else the kernel computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import is_dequantize, is_row_dequantize, is_whole_dequantize

_A = torch.ops.aten


def spell_leftovers(module: GraphModule) -> None:
    """Rewrites every dequantize but the plain ones, which kernels compute as they are."""
    for node in list(module.graph.nodes):
        if is_dequantize(node) and not is_whole_dequantize(node):
            _spell(module, node)


def _are_zeros(module: GraphModule, zero_points: Any) -> bool:
    constant = constant_of(module, zero_points)
    return zero_points is None or (constant is not None and not constant.any())


def _spell(module: GraphModule, node: Node) -> None:
    given = arguments(node)
    names = ("scales", "zero_points") if "scales" in given else ("scale", "zero_point")
    shape = [1] * tensor_of(node).dim()
    wanted = tensor_of(node).dtype
    dtype = torch.float64 if wanted == torch.float64 else torch.float32
    if "axis" in given:
        shape[given["axis"]] = -1

    def call(target: Any, *args: Any, **kwargs: Any) -> Node:
        return insert(node, target, args, kwargs, like=node)

    def parameter(name: str) -> Node | float | int:
        value: Node | float | int = given[name]
        if not isinstance(value, Node):
            return value
        constant = constant_of(module, value)
        if constant is not None:
            own = constant if is_row_dequantize(node) else constant.reshape(shape)
            return insert_constant(module, node, own.to(dtype), f"_{name}")
        # Of rows they have x's dims already; of a whole tensor, one element in any number of dims.
        if not is_row_dequantize(node):
            shaped = call(_A.reshape.default, value, shape)
        elif is_call(value, _A.embedding.default):
            table, columns = value.args[0], tensor_of(node).shape[-1]
            wide = call(_A.expand.default, table, [-1, columns])
            shaped = call(_A.embedding.default, wide, *value.args[1:])
        else:
            shaped = value
        return shaped if tensor_of(shaped).dtype == dtype else call(_A._to_copy.default, shaped, dtype=dtype)

    scale, zero_point = parameter(names[0]), None if _are_zeros(module, given[names[1]]) else parameter(names[1])
    real = call(_A._to_copy.default, given["input"], dtype=dtype)
    if zero_point is not None:
        real = call(_A.sub.Tensor, real, zero_point)
    real = call(_A.mul.Tensor, real, scale)
    replace(node, real if wanted == dtype else call(_A._to_copy.default, real, dtype=wanted))
