"""Factors of a value's channels folded into what makes it: cross-layer equalization (Nagel et al., arXiv:1906.04721).

    norm(x)·g + b      ▶  norm(x)·(g·f) + b·f
    relu(conv(x, W) + b)  ▶  relu(conv(x, W·f) + b·f)      for f > 0; relu, max pools and dropout let factors through

Only where nobody else reads the value. A weight with a scale for each output channel loses nothing by it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..frontend.contractions import CONVOLUTIONS, LINEARS
from ..graph.arguments import arguments, is_call
from ..graph.edit import insert_constant, tensor_at
from .clip import settle_weight
from .slots import Slot

_A = torch.ops.aten
_LETS_THROUGH = (
    _A.relu.default, _A.relu_.default, _A.dropout.default, _A.clone.default, _A.max_pool2d.default,
    _A.leaky_relu.default, _A.adaptive_avg_pool2d.default, _A.avg_pool2d.default,
)  # fmt: skip
"""f(x · c) = f(x) · c for c > 0, channel by channel."""
_PARAMETERS = ("weight", "bias")
_PLAIN = tuple(target for target in (*LINEARS, *CONVOLUTIONS) if "transpose" not in str(target))


def can_fold(prepared: GraphModule, slot: Slot, channels: int) -> bool:
    """Whether factors for so many channels of the slot's value can be folded into what makes it."""
    node = _producer(slot)
    if node is None:
        return False
    given = arguments(node)
    if any(given[name] is not None and _constant(prepared, _parameter(given[name])) is None for name in _PARAMETERS):
        return False
    if is_call(node, _A.layer_norm.default):
        fits = list(given["normalized_shape"]) == [channels] and given["weight"] is not None
        return fits and slot.kind == "linear"
    weight = _constant(prepared, _parameter(given["weight"]))
    return weight is not None and len(weight) == channels and len(given["weight"].users) == 1


def fold_into_producer(prepared: GraphModule, slot: Slot, factors: Tensor) -> bool:
    """Has the slot's value come multiplied by `factors` (one a channel), in place; False where that cannot be."""
    node = _producer(slot)
    if node is None or not can_fold(prepared, slot, len(factors)):
        return False
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]  # a call of ATen's
        given = arguments(node)[argument.name]
        if argument.name in _PARAMETERS and given is not None:
            _multiply(prepared, node, position, given, factors)
    return True


def _producer(slot: Slot) -> Node | None:
    """The norm or layer that makes the slot's value, up to operators that let factors through; nobody else reads it."""
    node: Node = slot.source
    if set(node.users) != set(slot.calls):
        return None
    while is_call(node, *_LETS_THROUGH):
        (node,) = node.all_input_nodes[:1]
        if len(node.users) != 1:
            return None
    return node if is_call(node, _A.layer_norm.default, *_PLAIN) else None


def _multiply(prepared: GraphModule, node: Node, position: int, given: Node, factors: Tensor) -> None:
    tensor = _constant(prepared, _parameter(given))
    assert tensor is not None
    scaled = tensor * factors.reshape(-1, *[1] * (tensor.dim() - 1))
    if given.op != "call_module":
        node.update_arg(position, insert_constant(prepared, node, scaled, "_equalized"))
        return
    constant = insert_constant(prepared, given, scaled, "_equalized")
    given.args = (constant,)
    settle_weight(prepared, str(given.target), constant)


def _parameter(node: Node) -> object:
    """The parameter itself, behind an observer."""
    return node.args[0] if node.op == "call_module" else node


def _constant(prepared: GraphModule, node: object) -> Tensor | None:
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    tensor = tensor_at(prepared, str(node.target))
    return tensor.detach() if tensor is not None and tensor.dtype == torch.float32 else None
