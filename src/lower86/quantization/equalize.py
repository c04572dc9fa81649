"""Factors of a value's channels folded into what makes it: cross-layer equalization (Nagel et al., arXiv:1906.04721).

    norm(x)·g + b      ▶  norm(x)·(g·f) + b·f
    relu(conv(x, W) + b)  ▶  relu(conv(x, W·f) + b·f)      for f > 0; relu, max pools and dropout let factors through

Only where nobody else reads the value. A weight with a scale for each output channel loses nothing by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..frontend.contractions import CONVOLUTIONS, LINEARS
from ..graph.arguments import arguments, is_call
from ..graph.edit import insert_constant, tensor_at
from .clip import settle_weight
from .recipe import Recipe
from .slots import Slot

_A = torch.ops.aten
_LETS_THROUGH = (
    _A.relu.default, _A.relu_.default, _A.dropout.default, _A.clone.default, _A.max_pool2d.default,
    _A.leaky_relu.default, _A.adaptive_avg_pool2d.default, _A.avg_pool2d.default,
)  # fmt: skip
"""f(x · c) = f(x) · c for c > 0, channel by channel."""
_PLAIN = tuple(target for target in (*LINEARS, *CONVOLUTIONS) if "transpose" not in str(target))


def fold_into_producer(prepared: GraphModule, slot: Slot, factors: Tensor, recipe: Recipe) -> bool:
    """Has the slot's value come multiplied by `factors` (one a channel), in place; False where that cannot be."""
    node: Node = slot.source
    if set(node.users) != set(slot.calls):
        return False
    while is_call(node, *_LETS_THROUGH):
        (node,) = node.all_input_nodes[:1]
        if len(node.users) != 1:
            return False
    if is_call(node, _A.layer_norm.default) and slot.kind == "linear":
        return _fold_norm(prepared, node, factors)
    if is_call(node, *_PLAIN):
        return _fold_layer(prepared, node, factors, recipe)
    return False


def _fold_norm(prepared: GraphModule, node: Node, factors: Tensor) -> bool:
    given = arguments(node)
    found = {name: _constant(prepared, given[name]) for name in ("weight", "bias")}
    if list(given["normalized_shape"]) != [len(factors)] or found["weight"] is None:
        return False
    if given["bias"] is not None and found["bias"] is None:
        return False
    for name, tensor in found.items():
        if tensor is not None:
            given[name] = insert_constant(prepared, node, tensor * factors, "_equalized")
    node.args, node.kwargs = tuple(given.values()), {}
    return True


def _fold_layer(prepared: GraphModule, node: Node, factors: Tensor, recipe: Recipe) -> bool:
    given = arguments(node)
    call = given["weight"]
    weight = _constant(prepared, call.args[0] if call.op == "call_module" else call)
    bias = _constant(prepared, given["bias"])
    if weight is None or len(weight) != len(factors) or (given["bias"] is not None and bias is None):
        return False
    if call.op == "call_module" and len(call.users) != 1:
        return False
    scaled = weight * factors.reshape(-1, *[1] * (weight.dim() - 1))
    place = call if call.op == "call_module" else node
    constant = insert_constant(prepared, place, scaled, "_equalized")
    if call.op == "call_module":
        call.args = (constant,)
        settle_weight(prepared, str(call.target), constant, recipe)
    else:
        node.update_arg(1, constant)
    if bias is not None:
        changed: list[Any] = list(node.args)
        changed[2] = insert_constant(prepared, node, bias * factors, "_equalized")
        node.args = tuple(changed)
    return True


def _constant(prepared: GraphModule, node: object) -> Tensor | None:
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    tensor = tensor_at(prepared, str(node.target))
    return tensor.detach() if tensor is not None and tensor.dtype == torch.float32 else None
