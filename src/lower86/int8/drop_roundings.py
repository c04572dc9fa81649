"""Between integers, nothing is rounded to bf16 or f16.

    quantize(relu(to_bf16(int8_conv(…)) + dequantize(r, to bf16)))  ->  quantize(relu(int8_conv(…) + dequantize(r)))

A model in bf16 rounds there because PyTorch holds the values in bf16; here they never leave their registers. Only what
nobody else reads, from the quantize back to the casts behind integer contractions, through operators of one element.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, tensor_of
from ..graph.edit import insert
from ..graph.qparams import is_plain_quantize, is_whole_dequantize
from ..normalize.precision import NARROW
from ..ops.attention import int8_attention
from ..ops.conv import int8_conv
from ..ops.linear import int8_linear
from ..ops.matmul import int8_matmul

_A = torch.ops.aten
_CONTRACTIONS = (int8_linear, int8_conv, int8_matmul, int8_attention)
_THROUGH = (
    _A.relu.default, _A.relu6.default, _A.hardtanh.default, _A.clamp.default, _A.gelu.default, _A.silu.default,
    _A.sigmoid.default, _A.tanh.default, _A.hardswish.default, _A.hardsigmoid.default, _A.leaky_relu.default,
    _A.add.Tensor, _A.sub.Tensor, _A.mul.Tensor, _A.div.Tensor,
)  # fmt: skip


def drop_roundings(module: GraphModule) -> None:
    """Has every quantize read float32, where that is what integer contractions give."""
    for node in list(module.graph.nodes):
        if is_plain_quantize(node) and _is_wide_inside(node.args[0]):
            node.update_arg(0, _widened(node.args[0]))


def _is_wide_inside(node: Any) -> bool:
    """Whether the value, which only one node reads, comes of a rounded contraction."""
    if not isinstance(node, Node) or len(node.users) != 1 or tensor_of(node).dtype not in NARROW:
        return False
    if is_call(node, _A._to_copy.default):
        return is_call(node.args[0], *_CONTRACTIONS)
    return is_call(node, *_THROUGH) and any(_is_wide_inside(operand) for operand in node.all_input_nodes)


def _widened(node: Any) -> Any:
    """The value in float32; the nodes that gave it are left to die."""
    if _is_wide_inside(node) and is_call(node, _A._to_copy.default):
        return node.args[0]
    if _is_wide_inside(node):
        args = [_widened(a) if isinstance(a, Node) else a for a in node.args]
        return insert(node, node.target, args, dict(node.kwargs), like=node)
    if is_whole_dequantize(node) and len(node.users) == 1:
        kwargs = {**node.kwargs, "out_dtype": torch.float32}
        return insert(node, node.target, node.args, kwargs, like=node)
    return node
