"""Float layers in bf16: operands of 16 bits and sums in float32, for the CPU's dot product of bf16.

    x ─ linear ─ y        ▶        x ─ to bf16 ─ linear (weights in bf16) ─ to float32 ─ y

Linears and convolutions alone: between the products of an attention stands a softmax, which would no longer be
recognised as theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.fx import GraphModule, Node

from ..frontend.contractions import CONVOLUTIONS, LINEARS
from ..graph.arguments import is_call, tensor_of
from .layers import Layer

_TO = torch.ops.aten.to.dtype


def can_be_narrow(layers: Iterable[Layer]) -> bool:
    """Whether any of the layers could be in bf16."""
    return any(layer.kind in ("linear", "convolution") for layer in layers)


def narrowed(changed: GraphModule, layers: Iterable[Layer]) -> GraphModule:
    """The graph with its float32 linears and convolutions of these layers in bf16; it is changed in place."""
    wanted = {name for layer in layers for name in layer.nodes}
    for node in list(changed.graph.nodes):
        if node.name in wanted and is_call(node, *LINEARS, *CONVOLUTIONS) and _is_float32(node):
            _narrow(changed, node)
    changed.graph.lint()
    changed.recompile()
    return changed


def _narrow(changed: GraphModule, node: Node) -> None:
    before: dict[Node, Node] = {}
    for operand in node.all_input_nodes:
        if _is_float32(operand):
            with changed.graph.inserting_before(node):
                before[operand] = _cast(changed, operand, torch.bfloat16, node)
    for operand, cast in before.items():
        node.replace_input_with(operand, cast)
    node.meta["val"] = tensor_of(node).to(torch.bfloat16)
    with changed.graph.inserting_after(node):
        wide = _cast(changed, node, torch.float32, node)
    node.replace_all_uses_with(wide, delete_user_cb=lambda user: user is not wide)


def _cast(changed: GraphModule, value: Node, dtype: torch.dtype, layer: Node) -> Node:
    cast = changed.graph.call_function(_TO, (value, dtype))
    cast.meta = {name: kept for name, kept in layer.meta.items() if name in ("nn_module_stack", "stack_trace")}
    cast.meta["val"] = tensor_of(value).to(dtype)
    return cast


def _is_float32(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32
