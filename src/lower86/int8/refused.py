"""Quantized contractions that no rule lowers yet: each stays float, and says so.

Products of two activations still run, dequantized, and are listed by `explain`.
"""

from __future__ import annotations

import math

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.qparams import is_dequantize
from .record import Refusal, record, size_hint

_A = torch.ops.aten
_PRODUCTS = (
    _A.matmul.default, _A.mm.default, _A.bmm.default, _A.addmm.default, _A.baddbmm.default, _A.mv.default,
    _A.addmv.default, _A.dot.default, _A.bilinear.default,
)  # fmt: skip


def refuse_others(module: GraphModule, node: Node) -> Refusal | None:
    """The reason why a quantized product stays float."""
    if not any(is_dequantize(operand) for operand in node.all_input_nodes):
        return None
    macs = _product_macs(node)
    if macs is None:
        return None
    return Refusal(record(node, macs, "int8 products of two activations are not supported yet"))


def _product_macs(node: Node) -> int | None:
    """Multiply-accumulates of a product, or None for any other node."""
    if is_call(node, _A.scaled_dot_product_attention.default):
        given = arguments(node)
        queries, keys, values = (_sizes(given[name]) for name in ("query", "key", "value"))
        return math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])
    if not is_call(node, *_PRODUCTS):
        return None
    given = arguments(node)
    if is_call(node, _A.bilinear.default):
        return math.prod(_sizes(node)) * math.prod(_sizes(given["weight"])[1:])
    names = ("mat1", "batch1", "mat", "self")
    left = next(given[name] for name in names if name in given)
    return math.prod(_sizes(node)) * _sizes(left)[-1]


def _sizes(node: Node) -> list[int]:
    return [size_hint(size) for size in shape_of(node)]
