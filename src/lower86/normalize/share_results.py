"""What is computed twice is computed once.

    where(m, bias, -3.4e38)  in every layer   ->   once, for all of them
    size(mask[n, n], 1)                       ->   size(ids[b, n], 1), an earlier one

Only calls of the same operator with the same arguments; none that draws random numbers, and no dequantize: each of
those belongs to its one user. Sizes are the same if export found them to be, so that no tensor stays for its size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, is_pure
from ..graph.edit import replace
from ..graph.qparams import is_dequantize


def share_results(module: GraphModule) -> None:
    """Replaces every call that an earlier one has already answered."""
    answered: dict[Any, Node] = {}
    for node in list(module.graph.nodes):
        if is_call(node, torch.ops.aten.sym_size.int):
            key: Any = ("size", str(node.meta["val"]))
        elif is_pure(node) and isinstance(node.meta.get("val"), torch.Tensor) and not is_dequantize(node):
            key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        else:
            continue
        earlier = answered.setdefault(key, node)
        if earlier is not node:
            replace(node, earlier)


def _frozen(part: Any) -> Any:
    """Arguments as something to look up; 1, 1.0 and True are three things, and so are 0.0 and -0.0."""
    if isinstance(part, (list, tuple)):
        return tuple(_frozen(item) for item in part)
    if isinstance(part, dict):
        return tuple((name, _frozen(part[name])) for name in sorted(part))
    return part if isinstance(part, Node) else (type(part), repr(part))
