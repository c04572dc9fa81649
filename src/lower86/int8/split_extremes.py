"""The largest and the least of a whole tensor by way of its rows: threads share those, and who computes them has them.

    amax(x)    ->    amax(amax(x, [-1]))        x of [4, 32, 384]; likewise amin, max, min

They are the same in any order, as sums would not be. So dynamic quantization of a whole tensor looks at each element
once, in the kernel that makes it, and then at one number a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import insert, replace

_A = torch.ops.aten
_EXTREMES: Mapping[Any, Any] = {
    _A.amax.default: _A.amax.default, _A.max.default: _A.amax.default,
    _A.amin.default: _A.amin.default, _A.min.default: _A.amin.default,
}  # fmt: skip
_SHORT, _LITTLE = 64, 8192
"""Elements of a row that is not worth a result, and of a tensor that one thread may as well take alone."""


def split_extremes(module: GraphModule) -> None:
    """Splits the extremes of all elements of matrices, and of batches of them, whose rows are long and many."""
    for node in list(module.graph.nodes):
        if is_call(node, *_EXTREMES):
            given = arguments(node)
            x = given["self"]
            if _is_of_all(given.get("dim"), tensor_of(x).dim()) and _has_rows(x):
                operator, keep = _EXTREMES[node.target], given.get("keepdim", False)
                rows = insert(node, operator, (x, [-1], keep), like=node)
                replace(node, insert(node, operator, (rows, [], keep), like=node))


def _is_of_all(dims: Sequence[int] | None, rank: int) -> bool:
    return not dims or len({d % rank for d in dims}) == rank


def _has_rows(x: Node) -> bool:
    *outer, last = shape_of(x) or (0,)
    if len(outer) not in (1, 2) or not isinstance(last, int) or last < _SHORT or not tensor_of(x).is_floating_point():
        return False
    count = 1
    for size in outer:
        if not isinstance(size, int):
            return True
        count *= size
    return count * last > _LITTLE and count >= 16
