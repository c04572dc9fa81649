"""Operators that give back what they got: copies, dropout at inference, casts to the same dtype, no-op movement."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, same_shape, shape_of, tensor_of
from ..graph.edit import replace

_A = torch.ops.aten
_COPIES = (
    _A.clone.default, _A.alias.default, _A.detach.default, _A.detach_.default, _A.contiguous.default,
    _A.lift_fresh_copy.default, _A.positive.default,
)  # fmt: skip
_CASTS = (_A._to_copy.default, _A.to.dtype, _A.to.dtype_layout)
_MOVES = (
    _A.view.default,
    _A.reshape.default,
    _A._unsafe_view.default,
    _A.expand.default,
    _A.expand_copy.default,
    _A.slice.Tensor,
)


def drop_identities(module: GraphModule) -> None:
    """Erases identities. Strides are the scheduler's business, so a copy for the sake of layout is one too."""
    for node in list(module.graph.nodes):
        source = node.args[0] if node.op == "call_function" and node.args else None
        if isinstance(source, Node) and _is_identity(node, source):
            replace(node, source)


def _is_identity(node: Node, source: Node) -> bool:
    if is_call(node, *_COPIES):
        return True
    if is_call(node, _A.dropout.default, _A.native_dropout.default):
        return not arguments(node)["train"]
    if is_call(node, *_CASTS):
        return tensor_of(node).dtype == tensor_of(source).dtype
    if is_call(node, _A.constant_pad_nd.default, _A.pad.default):
        return all(isinstance(pad, int) and pad == 0 for pad in arguments(node)["pad"])
    if is_call(node, *_MOVES):
        return same_shape(shape_of(node), shape_of(source))
    return False
