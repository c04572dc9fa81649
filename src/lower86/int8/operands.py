"""What all integer contractions ask of their operands, and how those become int8: reasons, weights, scales, biases."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import QParams, is_dequantize, qparams_of

_BYTES = (torch.uint8, torch.int8)


def is_quantized(x: Node, w: Node) -> bool:
    """Whether a contraction of the two is meant to be an integer one."""
    return is_dequantize(x) or is_dequantize(w) or (in_blocks(x) and in_blocks(w))


def why_not(module: GraphModule, x: Node, w: Node, axis: int) -> str:
    """Why a product of the two stays float, "" if it need not; `axis` is that of the weight's output channels."""
    if not is_dequantize(x):
        blocks = "the activation is quantized in blocks that are neither the whole tensor nor its rows"
        return blocks if in_blocks(x) else "only the weight is quantized; the activation is float"
    if not is_dequantize(w):
        blocks = "the weight is quantized in blocks that are neither the whole tensor nor its rows"
        return blocks if in_blocks(w) else "only the activation is quantized; the weight is float"
    activation, weight = qparams_of(module, x), qparams_of(module, w)
    if constant_of(module, w.args[0]) is None:
        return "the weight is not a constant"
    if activation.axis is not None:
        return "the activation is quantized per channel, so its scale cannot leave the sum"
    if not weight.is_static:
        return "the weight's scale is not a constant"
    if activation.dtype not in _BYTES or weight.dtype not in _BYTES:
        return f"activation {activation.dtype} and weight {weight.dtype} are not both 8-bit integers"
    if weight.axis not in (None, axis):
        return f"the weight is quantized along axis {weight.axis}, a summed one, so its scales cannot leave the sum"
    return ""


def in_blocks(node: Node) -> bool:
    """Whether a dequantize that no rule knows gave the value, or the constant it became."""
    made_by = node.target if node.op == "call_function" else node.meta.get("computed_by", "")
    return "dequantize" in str(made_by)


def finish(node: Node, result: Node, name: str) -> None:
    """Puts `result` in the place of `node`, cast where the model has narrower floats, under the name reports know."""
    if tensor_of(node).dtype == torch.float32:
        replace(node, result)
    else:
        cast = {"dtype": tensor_of(node).dtype}
        replace(node, insert(node, torch.ops.aten._to_copy.default, (result,), cast, like=node))
    result.name = name


def as_float32(module: GraphModule, node: Node, bias: Node | None) -> Node | None:
    """The bias before `node`, in float32."""
    if bias is None or tensor_of(bias).dtype == torch.float32:
        return bias
    constant = constant_of(module, bias)
    if constant is not None:
        return insert_constant(module, node, constant.to(torch.float32), "_bias")
    return insert(node, torch.ops.aten._to_copy.default, (bias,), {"dtype": torch.float32}, like=node)


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
    rest = weight.to(torch.int32) - (zero.reshape(-1, *[1] * (weight.dim() - 1)) if zero.ndim else zero)
    pieces = [rest.clamp(-128, 127)]
    while bool((rest := rest - pieces[-1]).any()):
        pieces.append(rest.clamp(-128, 127))
    return [piece.to(torch.int8) for piece in pieces]
