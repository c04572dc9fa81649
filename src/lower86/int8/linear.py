"""Int8 linear.

    dequantize(x) --.
                     linear(·, ·, bias)   ->   lower86::int8_linear(x, w, bias, x_zero_point, scale)
    dequantize(w) --'

s8 and u8 on either side, any zero points, scales per tensor or per output row. An activation's scale and zero point
may be tensors known at run time (dynamic quantization): `row_scale` and `row_zero_point`. A weight whose zero point is
not 0 is shifted by it; where that no longer fits 8 bits it is the sum of several that do, and so is the result.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import constant_of, insert, insert_constant
from ..graph.qparams import QParams, is_row_dequantize, qparams_of
from ..ops.linear import int8_linear
from .operands import as_float32, combined_scale, finish, is_quantized, shifted_weights, why_not
from .record import Lowered, Refusal, record, size_hint


def lower_linear(module: GraphModule, node: Node) -> Lowered | Refusal | None:
    """Rewrites one `linear` whose operands are both dequantized."""
    if not is_call(node, torch.ops.aten.linear.default):
        return None
    given = arguments(node)
    x, w, bias = given["input"], given["weight"], given["bias"]
    if not is_quantized(x, w):
        return None
    macs = math.prod(size_hint(s) for s in shape_of(node)) * size_hint(shape_of(w)[-1])
    reason = _why_not(module, x, w)
    if reason:
        return Refusal(record(node, macs, reason))
    made = record(node, macs)
    finish(node, _rewrite(module, node, x, w, bias), made.node)
    return Lowered(made)


def keep_lowered(module: GraphModule, node: Node) -> Lowered | None:
    """Counts a linear that is int8 already, as in a lowered model that is lowered again."""
    if not is_call(node, int8_linear):
        return None
    macs = math.prod(size_hint(s) for s in shape_of(node)) * size_hint(shape_of(arguments(node)["weight"])[-1])
    return Lowered(record(node, macs))


def _why_not(module: GraphModule, x: Node, w: Node) -> str:
    return why_not(module, x, w, 0) or ("the contraction is empty" if shape_of(x)[-1] == 0 else "")


def _rewrite(module: GraphModule, node: Node, x: Node, w: Node, bias: Node | None) -> Node:
    activation, parameters = qparams_of(module, x), qparams_of(module, w)
    weight = constant_of(module, w.args[0])
    assert weight is not None
    scale = combined_scale(activation, parameters, weight.shape[0])
    scale_node = insert_constant(module, node, scale, "_scale")
    pieces = shifted_weights(weight, parameters.zero_point)
    bias = as_float32(module, node, bias)
    total: Node | None = None
    for piece in pieces:
        unchanged = piece is weight and isinstance(w.args[0], Node)
        weight_node = w.args[0] if unchanged else insert_constant(module, node, piece, "_weight")
        operands = (x.args[0], weight_node, *((bias,) if total is None and bias is not None else ()))
        qparams = {"scale": scale_node, **_activation_qparams(node, activation, x)}
        part = insert(node, int8_linear, operands, qparams, like=node)
        total = part if total is None else insert(node, torch.ops.aten.add.Tensor, (total, part), like=node)
    assert total is not None
    return total


def _activation_qparams(node: Node, activation: QParams, x: Node) -> dict[str, Any]:
    if activation.is_static:
        return {"x_zero_point": activation.zero_point}
    given = arguments(x)
    names = ("scales", "zero_points") if is_row_dequantize(x) else ("scale", "zero_point")
    scale, zero_point = (
        insert(node, torch.ops.aten._to_copy.default, (given[name],), {"dtype": dtype}, like=node)
        for name, dtype in zip(names, (torch.float32, torch.int32), strict=True)
    )
    return {"x_zero_point": 0, "row_zero_point": zero_point, "row_scale": scale}
