"""Checks that export recorded and that lowering has made true: tensor metadata, dim ranges, the guards module."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from ..graph.arguments import is_call

_A = torch.ops.aten
_CHECKS = (
    _A._assert_tensor_metadata.default,
    _A._assert_async.msg,
    _A._assert_async.default,
    _A._assert_scalar.default,
    _A.sym_constrain_range.default,
    _A.sym_constrain_range_for_size.default,
)


def drop_guards(module: GraphModule) -> None:
    """Erases assertions: shapes and dtypes are checked at every call, before anything runs."""
    for node in reversed(list(module.graph.nodes)):
        guards = node.op == "call_module" and "guards" in str(node.target)
        if (guards or is_call(node, *_CHECKS)) and not node.users:
            module.graph.erase_node(node)
