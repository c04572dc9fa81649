"""Quantized products that no rule takes: each stays float, runs dequantized, and says why."""

from __future__ import annotations

import math

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.qparams import is_dequantize
from .record import Refusal, record, size_hint

_A = torch.ops.aten
_OF_VECTORS = (_A.mv.default, _A.addmv.default, _A.dot.default)


def refuse_others(module: GraphModule, node: Node) -> Refusal | None:
    """The reason why a quantized product stays float."""
    if not any(is_dequantize(operand) for operand in node.all_input_nodes):
        return None
    if is_call(node, _A.scaled_dot_product_attention.default):
        given = arguments(node)
        queries, keys, values = (_sizes(given[name]) for name in ("query", "key", "value"))
        macs = math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])
        return Refusal(record(node, macs, "the weights within the attention are not quantized"))
    if is_call(node, _A.bilinear.default):
        macs = math.prod(_sizes(node)) * math.prod(_sizes(arguments(node)["weight"])[1:])
        return Refusal(record(node, macs, "there is no int8 kernel for a product of three operands"))
    if is_call(node, *_OF_VECTORS):
        given = arguments(node)
        macs = math.prod(_sizes(given["mat"] if "mat" in given else given["self"]))
        return Refusal(record(node, macs, "an operand of the product is a vector"))
    return None


def _sizes(node: Node) -> list[int]:
    return [size_hint(size) for size in shape_of(node)]
