"""A cast of what a dequantize gives is a dequantize to that dtype, as autocast puts them before contractions.

    _to_copy(dequantize(q, …), bfloat16)   ->   dequantize(q, …, out_dtype=bfloat16)

One rounding at most is left of two.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, tensor_of
from ..graph.edit import insert, replace
from ..graph.qparams import is_dequantize, is_row_dequantize

_A = torch.ops.aten
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def fold_casts(module: GraphModule) -> None:
    """Folds the casts of dequantizes between floats."""
    for node in list(module.graph.nodes):
        if is_call(node, _A._to_copy.default) and tensor_of(node).dtype in _FLOATS:
            source = node.args[0]
            if isinstance(source, Node) and is_dequantize(source) and tensor_of(source).dtype in _FLOATS:
                _fold(node, source)


def _fold(cast: Node, dequantize: Node) -> None:
    args, kwargs = dequantize.args, dict(dequantize.kwargs)
    if is_row_dequantize(dequantize):
        args = (*args[:6], tensor_of(cast).dtype)
    else:
        kwargs["out_dtype"] = tensor_of(cast).dtype
    replace(cast, insert(cast, dequantize.target, args, kwargs, like=dequantize, value=cast.meta["val"]))
