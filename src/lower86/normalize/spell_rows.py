"""A per-token dequantize that PyTorch has taken apart is one operator again, for the rules to take in.

    mul(sub(float(q), float(zero_points)), scales)  ->  dequantize_per_token(q, scales, zero_points)

q is u8 or s8, the zero points are integers, and both parameters have one entry for each row of the last dim, or fewer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, same_size, shape_of, tensor_of
from ..graph.edit import constant_of, insert, replace
from ..graph.qparams import overloads

_A = torch.ops.aten


def spell_rows(module: GraphModule) -> None:
    """Rewrites what linears read."""
    if not overloads("dequantize_per_token.default"):
        return
    for node in list(module.graph.nodes):
        if is_call(node, _A.linear.default) and isinstance(node.args[0], Node):
            _spell(module, node.args[0])


def _spell(module: GraphModule, product: Node) -> None:
    if not is_call(product, _A.mul.Tensor):
        return
    difference: Any
    difference, scales = product.args
    if not is_call(difference, _A.sub.Tensor) or arguments(difference)["alpha"] != 1:
        return
    q, zero_points = (_integers(operand) for operand in difference.args[:2])
    if q is None or zero_points is None or tensor_of(q).dtype not in (torch.uint8, torch.int8):
        return
    if constant_of(module, q) is not None or not (_is_of_rows(scales, q) and _is_of_rows(zero_points, q)):
        return
    dtype = tensor_of(q).dtype
    limits = torch.iinfo(dtype)
    operands = (q, scales, zero_points, limits.min, limits.max, dtype, torch.float32)
    (whole,) = overloads("dequantize_per_token.default")
    replace(product, insert(product, whole, operands, like=product, value=product.meta["val"]))


def _integers(real: Any) -> Node | None:
    """The integers that a cast makes float32."""
    if not is_call(real, _A._to_copy.default) or tensor_of(real).dtype != torch.float32:
        return None
    source = real.args[0]
    return source if isinstance(source, Node) and not tensor_of(source).dtype.is_floating_point else None


def _is_of_rows(parameter: Any, q: Node) -> bool:
    if not isinstance(parameter, Node):
        return False
    shape = shape_of(parameter)
    return len(shape) == len(shape_of(q)) and len(shape) > 0 and same_size(shape[-1], 1)
