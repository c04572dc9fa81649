"""Quantized contractions that no rule lowers yet: each stays float, and says so.

Convolutions and products of two activations still run, dequantized, and are listed by `explain`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, shape_of
from ..graph.qparams import is_dequantize
from .record import Refusal, record, size_hint

_A = torch.ops.aten
_PRODUCTS = (_A.matmul.default, _A.mm.default, _A.bmm.default, _A.addmm.default, _A.scaled_dot_product_attention.default)
_CONVOLUTIONS = (
    _A.conv1d.default, _A.conv2d.default, _A.conv3d.default, _A.conv1d.padding, _A.conv2d.padding, _A.conv3d.padding,
    _A.conv_transpose1d.default, _A.conv_transpose2d.input, _A.conv_transpose3d.input, _A.convolution.default,
)  # fmt: skip


def refuse_others(module: GraphModule, node: Node) -> Refusal | None:
    """The reason why a quantized product or convolution stays float."""
    if not any(is_dequantize(operand) for operand in node.all_input_nodes):
        return None
    if is_call(node, *_PRODUCTS):
        return Refusal(record(node, _product_macs(node), "int8 products of two activations are not supported yet"))
    if is_call(node, *_CONVOLUTIONS):
        return Refusal(record(node, _convolution_macs(node), "int8 convolutions are not supported yet"))
    return None


def _product_macs(node: Node) -> int:
    operands: list[Any] = [n for n in node.all_input_nodes if len(shape_of(n)) >= 1]
    return math.prod(size_hint(s) for s in shape_of(node)) * size_hint(shape_of(operands[0])[-1])


def _convolution_macs(node: Node) -> int:
    weight: Any = node.args[1]
    per_point = math.prod(size_hint(s) for s in shape_of(weight)[1:])
    return math.prod(size_hint(s) for s in shape_of(node)) * per_point
