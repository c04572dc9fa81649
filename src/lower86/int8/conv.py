"""Int8 convolution, in any number of dims, grouped, dilated, transposed.

    dequantize(x) --.
                     convolution(·, ·, bias)   ->   lower86::int8_conv(x, w, bias, x_zero_point, scale, …)
    dequantize(w) --'

The padding is the zero point, and a pad of x by it before the convolution becomes part of its own. A transposed
convolution is one of x with gaps: its weight is turned to [n, c, taps] and flipped. A weight whose zero point is not 0
is shifted by it, as in `linear.py`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import constant_of, insert, insert_constant
from ..graph.qparams import QParams, qparams_of
from ..ops.conv import int8_conv
from .operands import as_float32, combined_scale, finish, is_quantized, shifted_weights, why_not
from .record import Lowered, Refusal, record, size_hint

_A = torch.ops.aten


def lower_conv(module: GraphModule, node: Node) -> Lowered | Refusal | None:
    """Rewrites one `convolution` whose operands are both dequantized."""
    if not is_call(node, _A.convolution.default):
        return None
    given = arguments(node)
    x, w = given["input"], given["weight"]
    if not is_quantized(x, w):
        return None
    points = shape_of(x if given["transposed"] else node)
    macs = math.prod(size_hint(s) for s in points) * math.prod(size_hint(s) for s in shape_of(w)[1:])
    reason = why_not(module, x, w, 1 if given["transposed"] else 0) or _why_not(module, x, w)
    if reason:
        return Refusal(record(node, macs, reason))
    made = record(node, macs)
    finish(node, _rewrite(module, node, given), made.node)
    return Lowered(made)


def keep_lowered_conv(module: GraphModule, node: Node) -> Lowered | None:
    """Counts a convolution that is int8 already, as in a lowered model that is lowered again."""
    if not is_call(node, int8_conv):
        return None
    given = arguments(node)
    # Of a transposed one every input element meets all taps; of a plain one every output element has all of them.
    batch, _, *points = shape_of(given["x"] if given["transposed"] else node)
    sizes = (batch, *points, *shape_of(given["weight"]))
    return Lowered(record(node, math.prod(size_hint(size) for size in sizes)))


def _why_not(module: GraphModule, x: Node, w: Node) -> str:
    if not qparams_of(module, x).is_static:
        return "the activation's scale is known only at run time"
    if math.prod(size_hint(s) for s in shape_of(w)) == 0:
        return "the contraction is empty"
    return ""


def _rewrite(module: GraphModule, node: Node, given: dict[str, Any]) -> Node:
    x, w, groups = given["input"], given["weight"], given["groups"]
    activation, parameters = qparams_of(module, x), qparams_of(module, w)
    weight = constant_of(module, w.args[0])
    assert weight is not None
    options = {"stride": list(given["stride"]), "dilation": list(given["dilation"]), "groups": groups}
    options["low"] = options["high"] = list(given["padding"])
    options["spread"] = [1] * len(given["stride"])
    options["transposed"] = given["transposed"]
    if given["transposed"]:
        reach = [step * (t - 1) for step, t in zip(given["dilation"], weight.shape[2:], strict=True)]
        low = [r - pad for r, pad in zip(reach, given["padding"], strict=True)]
        options["stride"], options["spread"] = options["spread"], options["stride"]
        options["low"] = low
        options["high"] = [pad + more for pad, more in zip(low, given["output_padding"], strict=True)]
        weight, parameters = _turned(weight, groups), _repeated(parameters, groups)
    quantized = _without_pad(x.args[0], activation.zero_point, options)
    scale = insert_constant(module, node, combined_scale(activation, parameters, weight.shape[0]), "_scale")
    bias = as_float32(module, node, given["bias"])
    total: Node | None = None
    for piece in shifted_weights(weight, parameters.zero_point):
        unchanged = piece is weight and not given["transposed"]
        weight_node = w.args[0] if unchanged else insert_constant(module, node, piece, "_weight")
        operands = (quantized, weight_node, *((bias,) if total is None and bias is not None else ()))
        qparams = {"x_zero_point": activation.zero_point, "scale": scale, **options}
        part = insert(node, int8_conv, operands, qparams, like=node)
        total = part if total is None else insert(node, _A.add.Tensor, (total, part), like=node)
    assert total is not None
    return total


def _turned(weight: Tensor, groups: int) -> Tensor:
    """A transposed convolution's weight [c, n/groups, taps…] as the convolution's [n, c/groups, taps flipped…]."""
    channels, columns, *taps = weight.shape
    apart = weight.reshape(groups, channels // groups, columns, *taps).transpose(1, 2)
    return apart.reshape(groups * columns, channels // groups, *taps).flip(list(range(2, weight.dim())))


def _repeated(parameters: QParams, groups: int) -> QParams:
    """Parameters of a transposed weight's n/groups columns, for all n."""
    if parameters.axis is None:
        return parameters
    scale, zero = parameters.scale, parameters.zero_point
    scale = torch.as_tensor(scale).reshape(-1).repeat(groups)
    zero = torch.as_tensor(zero).reshape(-1).repeat(groups) if isinstance(zero, Tensor) and zero.ndim else zero
    return dataclasses.replace(parameters, scale=scale, zero_point=zero, axis=0)


def _without_pad(x: Any, zero_point: Any, options: dict[str, Any]) -> Any:
    """What a pad by the zero point pads, its paddings added to the convolution's."""
    while is_call(x, _A.constant_pad_nd.default) and arguments(x)["value"] == zero_point:
        pads, dims = arguments(x)["pad"], tensor_of(x).dim() - 2
        if len(pads) > 2 * dims or not all(isinstance(pad, int) and pad >= 0 for pad in pads):
            return x
        if any(gap > 1 for gap in options["spread"]):
            return x
        pads = [*pads, *[0] * (2 * dims - len(pads))]
        options["low"] = [pad + pads[2 * (dims - 1 - i)] for i, pad in enumerate(options["low"])]
        options["high"] = [pad + pads[2 * (dims - 1 - i) + 1] for i, pad in enumerate(options["high"])]
        x = arguments(x)["self"]
    return x
