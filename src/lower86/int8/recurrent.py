"""Int8 recurrent layers.

    lower86::lstm(x, h0, c0, dequantize(w), bias, h_scale=s)
        ->  lower86::int8_lstm(x, h0, c0, w, bias, h_scale=s, scale=s · scale of w)

and `gru` likewise: the state is quantized before each step's product, whose sums are exact. s8 weights around zero,
scales per tensor or per output row, as `X86Quantizer` gives them.
"""

from __future__ import annotations

import math

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import QParams, is_dequantize, qparams_of
from ..ops.recurrent import INTEGER, gru, int8_gru, int8_lstm, lstm, state_dtype
from .operands import as_float32, combined_scale, in_blocks
from .record import Lowered, Refusal, record, size_hint

_INTEGER = {lstm: int8_lstm, gru: int8_gru}


def lower_recurrent(module: GraphModule, node: Node) -> Lowered | Refusal | None:
    """Rewrites one recurrent layer whose weight is dequantized."""
    if not is_call(node, *_INTEGER):
        return None
    given = arguments(node)
    if not (is_dequantize(given["weight"]) or in_blocks(given["weight"]) or given["h_scale"] is not None):
        return None
    reason = _why_not(module, node)
    if reason:
        return Refusal(record(node, _macs(node), reason))
    made = record(node, _macs(node))
    name = node.name
    result = _rewrite(module, node)
    replace(node, result)
    result.name = name  # reports look it up by its name
    return Lowered(made)


def keep_lowered_recurrent(module: GraphModule, node: Node) -> Lowered | None:
    """Counts a recurrent layer that is int8 already, as in a lowered model that is lowered again."""
    return Lowered(record(node, _macs(node))) if is_call(node, *INTEGER) else None


def _macs(node: Node) -> int:
    given = arguments(node)
    return math.prod(size_hint(size) for size in (*shape_of(given["x"]), shape_of(given["h0"])[-1]))


def _why_not(module: GraphModule, node: Node) -> str:
    given = arguments(node)
    if given["h_scale"] is None:
        return "only the weight is quantized; the state is float"
    if not is_dequantize(given["weight"]):
        return "only the state is quantized; the weight is not, or in blocks that are neither rows nor all of it"
    weight = qparams_of(module, given["weight"])
    integers = constant_of(module, given["weight"].args[0])
    if integers is None or not weight.is_static:
        return "the weight is not a constant"
    if integers.dtype != torch.int8 or bool(torch.as_tensor(weight.zero_point).any()):
        return "the weight is not s8 around zero"
    return "" if weight.axis in (None, 0) else f"the weight is quantized along axis {weight.axis}, a summed one"


def _rewrite(module: GraphModule, node: Node) -> Node:
    given = arguments(node)
    weight = given["weight"]
    low, high = given["h_low"], given["h_high"]
    state = QParams(given["h_scale"], given["h_zero_point"], None, low, high, state_dtype(low))
    scale = combined_scale(state, qparams_of(module, weight), shape_of(weight)[0])
    operands = [given[name] for name in ("x", "h0", "c0") if name in given]
    options = {name: given[name] for name in ("reverse", "h_scale", "h_zero_point", "h_low", "h_high")}
    options["scale"] = insert_constant(module, node, scale, "_scale")
    bias = as_float32(module, node, given["bias"])
    return insert(node, _INTEGER[node.target], (*operands, weight.args[0], bias), options, like=node)
