"""Quantize and dequantize nodes as data, whatever operator spells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .arguments import arguments, function_of, is_call, tensor_of
from .edit import constant_of

_Q = torch.ops.quantized_decomposed


def operators() -> Any:
    """The `quantized_decomposed` namespace, once its operators are registered."""
    return _Q


def overloads(*names: str) -> tuple[Any, ...]:
    """The `quantized_decomposed` operators of these names; none while nobody has loaded what registers them."""
    found = []
    for name in names:
        packet, overload = name.split(".")
        try:
            found.append(getattr(getattr(_Q, packet), overload))
        except AttributeError:
            continue  # the frontend that brings these operators is not loaded: no graph holds them
    return tuple(found)


def is_plain_quantize(node: object) -> bool:
    """Whether the node quantizes a whole tensor with one scale and zero point, both numbers."""
    return is_call(node, *overloads("quantize_per_tensor.default"))


def is_whole_dequantize(node: object) -> bool:
    """Whether the node dequantizes a whole tensor with one scale and zero point, both numbers; not to float64."""
    if not isinstance(node, Node) or not is_call(node, *overloads("dequantize_per_tensor.default")):
        return False
    return node.kwargs.get("out_dtype") in (None, torch.float32, torch.bfloat16, torch.float16)


def is_plain_dequantize(node: object) -> bool:
    """`is_whole_dequantize`, to float32."""
    return isinstance(node, Node) and is_whole_dequantize(node) and tensor_of(node).dtype == torch.float32


def is_row_dequantize(node: object) -> bool:
    """Whether the node dequantizes each row of the last dim with a scale and a zero point of its own."""
    return is_call(node, *overloads("dequantize_per_token.default"))


def is_quantize(node: object) -> bool:
    """Whether the node turns floats into quantized integers."""
    return is_call(
        node, *overloads("quantize_per_tensor.default", "quantize_per_tensor.tensor", "quantize_per_channel.default")
    )


def is_dequantize(node: object) -> bool:
    """Whether the node turns quantized integers into floats."""
    return is_call(
        node,
        *overloads(
            "dequantize_per_tensor.default",
            "dequantize_per_tensor.tensor",
            "dequantize_per_tensor.tensor2",
            "dequantize_per_channel.default",
            "dequantize_per_token.default",
        ),
    )


def dequantized_constant(module: GraphModule, node: Node) -> torch.Tensor | None:
    """The tensor of a constant, or of the dequantize of one; None for any other node."""
    if not is_dequantize(node):
        return constant_of(module, node)
    constants = {n: constant_of(module, n) for n in node.all_input_nodes}
    if any(c is None for c in constants.values()):
        return None
    args: Any = torch.fx.node.map_arg(node.args, constants.__getitem__)
    return torch.as_tensor(function_of(node)(*args, **node.kwargs))


@dataclass(frozen=True)
class QParams:
    """How integers stand for reals: `real = (integer - zero_point) * scale`.

    `scale` and `zero_point` are numbers, or tensors of one entry per index of `axis`; None if known only at run time.
    """

    scale: float | torch.Tensor | None
    zero_point: int | torch.Tensor | None
    axis: int | None
    low: int
    high: int
    dtype: torch.dtype

    @property
    def is_static(self) -> bool:
        """Whether both are known now."""
        return self.scale is not None and self.zero_point is not None


def qparams_of(module: GraphModule, node: Node) -> QParams:
    """The parameters of a quantize or dequantize node; of a row's own, what they have in common."""
    given = arguments(node)
    if is_row_dequantize(node):
        return QParams(None, None, None, int(given["quant_min"]), int(given["quant_max"]), given["dtype"])
    per_channel = "scales" in given
    scale, zero = (given["scales"], given["zero_points"]) if per_channel else (given["scale"], given["zero_point"])
    if isinstance(scale, Node):
        scale = constant_of(module, scale)
    if isinstance(zero, Node):
        zero = constant_of(module, zero)
    elif per_channel and zero is None:
        zero = 0
    if not per_channel:
        scale = float(scale) if scale is not None else None
        zero = int(zero) if zero is not None else None
    axis = int(given["axis"]) % tensor_of(node).dim() if per_channel else None
    return QParams(scale, zero, axis, int(given["quant_min"]), int(given["quant_max"]), given["dtype"])


def same(a: QParams, b: QParams) -> bool:
    """Whether two per-tensor parameter sets are equal and static."""
    if a.axis is not None or b.axis is not None or not a.is_static:
        return False
    return (a.scale, a.zero_point, a.low, a.high, a.dtype) == (b.scale, b.zero_point, b.low, b.high, b.dtype)
