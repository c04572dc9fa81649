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
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import QParams, is_dequantize, is_row_dequantize, qparams_of
from ..ops.linear import int8_linear
from .record import Lowered, Refusal, record, size_hint

_BYTES = (torch.uint8, torch.int8)


def lower_linear(module: GraphModule, node: Node) -> Lowered | Refusal | None:
    """Rewrites one `linear` whose operands are both dequantized."""
    if not is_call(node, torch.ops.aten.linear.default):
        return None
    given = arguments(node)
    x, w, bias = given["input"], given["weight"], given["bias"]
    if not (is_dequantize(x) or is_dequantize(w) or (_in_blocks(x) and _in_blocks(w))):
        return None
    macs = math.prod(size_hint(s) for s in shape_of(node)) * size_hint(shape_of(w)[-1])
    reason = _why_not(module, x, w, bias)
    if reason:
        return Refusal(record(node, macs, reason))
    result = _rewrite(module, node, x, w, bias)
    made = record(node, macs)
    if tensor_of(node).dtype == torch.float32:
        replace(node, result)
    else:  # a model of narrower floats
        cast = {"dtype": tensor_of(node).dtype}
        replace(node, insert(node, torch.ops.aten._to_copy.default, (result,), cast, like=node))
    result.name = made.node
    return Lowered(made)


def keep_lowered(module: GraphModule, node: Node) -> Lowered | None:
    """Counts a linear that is int8 already, as in a lowered model that is lowered again."""
    if not is_call(node, int8_linear):
        return None
    macs = math.prod(size_hint(s) for s in shape_of(node)) * size_hint(shape_of(arguments(node)["weight"])[-1])
    return Lowered(record(node, macs))


def _why_not(module: GraphModule, x: Node, w: Node, bias: object) -> str:
    if not is_dequantize(x):
        blocks = "the activation is quantized in blocks that are neither the whole tensor nor its rows"
        return blocks if _in_blocks(x) else "only the weight is quantized; the activation is float"
    if not is_dequantize(w):
        blocks = "the weight is quantized in blocks that are neither the whole tensor nor its rows"
        return blocks if _in_blocks(w) else "only the activation is quantized; the weight is float"
    activation, weight = qparams_of(module, x), qparams_of(module, w)
    if constant_of(module, w.args[0]) is None:
        return "the weight is not a constant"
    if activation.axis is not None:
        return "the activation is quantized per channel, so its scale cannot leave the sum"
    if not weight.is_static:
        return "the weight's scale is not a constant"
    if activation.dtype not in _BYTES or weight.dtype not in _BYTES:
        return f"activation {activation.dtype} and weight {weight.dtype} are not both 8-bit integers"
    if weight.axis not in (None, 0):
        return f"the weight is quantized along axis {weight.axis}, the summed one, so its scales cannot leave the sum"
    if shape_of(x)[-1] == 0:
        return "the contraction is empty"
    return ""


def _in_blocks(node: Node) -> bool:
    """Whether a dequantize that no rule knows gave the value, or the constant it became."""
    made_by = node.target if node.op == "call_function" else node.meta.get("computed_by", "")
    return "dequantize" in str(made_by)


def _rewrite(module: GraphModule, node: Node, x: Node, w: Node, bias: Node | None) -> Node:
    activation, parameters = qparams_of(module, x), qparams_of(module, w)
    weight = constant_of(module, w.args[0])
    assert weight is not None
    scale = combined_scale(activation, parameters, weight.shape[0])
    scale_node = insert_constant(module, node, scale, "_scale")
    pieces = shifted_weights(weight, parameters.zero_point)
    bias = _as_float32(module, node, bias)
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


def _as_float32(module: GraphModule, node: Node, bias: Node | None) -> Node | None:
    if bias is None or tensor_of(bias).dtype == torch.float32:
        return bias
    constant = constant_of(module, bias)
    if constant is not None:
        return insert_constant(module, node, constant.to(torch.float32), "_bias")
    return insert(node, torch.ops.aten._to_copy.default, (bias,), {"dtype": torch.float32}, like=node)


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


def combined_scale(activation: QParams, weight: QParams, rows: int) -> Tensor:
    """The activation's scale (1 if not known yet) times each row's, in float64 and rounded once to float32."""
    known = activation.scale if isinstance(activation.scale, float) else 1.0
    scales = torch.as_tensor(weight.scale, dtype=torch.float64).reshape(-1)
    return (scales * known).to(torch.float32).expand(rows).contiguous()


def shifted_weights(weight: Tensor, zero_point: int | Tensor | None) -> list[Tensor]:
    """s8 tensors whose sum is `weight - zero_point` (one zero point, or one a row): one, two, or three for a 255."""
    zero = torch.as_tensor(zero_point if zero_point is not None else 0, dtype=torch.int32)
    if weight.dtype == torch.int8 and not bool(zero.any()):
        return [weight]
    rest = weight.to(torch.int32) - (zero.reshape(-1, 1) if zero.ndim else zero)
    pieces = [rest.clamp(-128, 127)]
    while bool((rest := rest - pieces[-1]).any()):
        pieces.append(rest.clamp(-128, 127))
    return [piece.to(torch.int8) for piece in pieces]
