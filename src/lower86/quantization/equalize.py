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

from ..frontend import torchao
from ..frontend.contractions import CONVOLUTIONS, LINEARS, SPATIAL
from ..graph.arguments import arguments, is_call
from ..graph.edit import insert_constant, tensor_at
from ..graph.scaled import mark_scaled
from .clip import settle_weight
from .slots import Slot

_A = torch.ops.aten
_POOLS = (_A.max_pool2d.default, _A.adaptive_avg_pool2d.default, _A.avg_pool2d.default)
_LETS_THROUGH = (
    _A.relu.default, _A.relu_.default, _A.dropout.default, _A.clone.default, _A.leaky_relu.default, *_POOLS,
)  # fmt: skip
"""f(x · c) = f(x) · c for c > 0, channel by channel; of pools, where the channels are in front of their two dims."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_VIEWS = (_A.view.default, _A.reshape.default, _A._unsafe_view.default)
_PARAMETERS = ("weight", "bias")
_PLAIN = tuple(target for target in (*LINEARS, *CONVOLUTIONS) if "transpose" not in str(target))


def can_fold(prepared: GraphModule, slot: Slot, channels: int) -> bool:
    """Whether factors for so many channels of the slot's value can be folded into what makes it."""
    path = _path(slot)
    if not path:
        return False
    node = path[-1]
    given = arguments(node)
    if any(given[name] is not None and _constant(prepared, _parameter(given[name])) is None for name in _PARAMETERS):
        return False
    spatial = SPATIAL.get(node.target, 0)
    if spatial != slot.spatial or (spatial != 2 and any(is_call(moved, *_POOLS) for moved in path)):
        return False  # what are channels of the one are no channels of the other
    if is_call(node, _A.layer_norm.default):
        return list(given["normalized_shape"]) == [channels] and given["weight"] is not None
    weight = _constant(prepared, _parameter(given["weight"]))
    return weight is not None and len(weight) == channels and len(given["weight"].users) == 1


def fold_into_producer(prepared: GraphModule, slot: Slot, factors: Tensor) -> bool:
    """Has the slot's value come multiplied by `factors` (one a channel), in place; False where that cannot be."""
    if not can_fold(prepared, slot, len(factors)):
        return False
    path = _path(slot)
    node = path[-1]
    for scaled in path:
        mark_scaled(scaled, factors.reshape(-1, *[1] * slot.spatial))
    for position, (name, given) in enumerate(arguments(node).items()):
        if name in _PARAMETERS and given is not None:
            _multiply(prepared, node, position, given, factors)
    return True


def _path(slot: Slot) -> list[Node]:
    """From the slot's value back to the norm or layer that makes it, through what lets factors through.

    Empty if there is none, or somebody else reads one of these.
    """
    path = [slot.source]
    if not _read_by_calls_alone(slot):
        return []
    while is_call(path[-1], *_LETS_THROUGH) or (not slot.spatial and _keeps_rows(path[-1])):
        path.append(path[-1].all_input_nodes[0])
        if len(path[-1].users) != 1:
            return []
    return path if is_call(path[-1], _A.layer_norm.default, *_PLAIN) else []


def _keeps_rows(node: Node) -> bool:
    """Whether the node says only how many rows there are."""
    if not is_call(node, *_VIEWS):
        return False
    width, before = (one.meta["val"].shape[-1:] for one in (node, node.all_input_nodes[0]))
    return len(width) == 1 and isinstance(width[0], int) and width == before


def _read_by_calls_alone(slot: Slot) -> bool:
    return {user for user in slot.source.users if user.target is not _A.sym_size.int} == set(slot.calls)


def _multiply(prepared: GraphModule, node: Node, position: int, given: Node, factors: Tensor) -> None:
    tensor = _constant(prepared, _parameter(given))
    assert tensor is not None
    scaled = (tensor.to(torch.float32) * factors.reshape(-1, *[1] * (tensor.dim() - 1))).to(tensor.dtype)
    if given.op != "call_module":
        constant = insert_constant(prepared, node, scaled, "_equalized")
        torchao.annotate_instead(node, given, constant)
        node.update_arg(position, constant)
        return
    constant = insert_constant(prepared, given, scaled, "_equalized")
    old: Any = given.args[0]
    torchao.annotate_instead(node, old, constant)
    given.args = (constant,)
    settle_weight(prepared, str(given.target), constant)


def _parameter(node: Node) -> object:
    """The parameter itself, behind an observer."""
    return node.args[0] if node.op == "call_module" else node


def _constant(prepared: GraphModule, node: object) -> Tensor | None:
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    tensor = tensor_at(prepared, str(node.target))
    return tensor.detach() if tensor is not None and tensor.dtype in FLOATS else None
