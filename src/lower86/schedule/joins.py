"""Concatenation: every part is copied to its place in one buffer.

    cat([x, y], dim)  ->  out[:, :3] = x;  out[:, 3:] = y
"""

from __future__ import annotations

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from .memory import Memory
from .symbols import storage_of, to_sizes
from .views import sliced

_A = torch.ops.aten


def is_native_join(node: Node) -> bool:
    """Whether the node is a concatenation of tensors of one dtype that programs hold."""
    if node.target is not _A.cat.default:
        return False
    values = [part.meta.get("val") for part in arguments(node)["tensors"]]
    parts = [value for value in values if isinstance(value, torch.Tensor)]
    if len(parts) != len(values):
        return False
    # An empty tensor of one dim joins anything, by an old courtesy of PyTorch's.
    same_rank = len({part.dim() for part in parts}) == 1
    dtypes = {part.dtype for part in parts}
    return same_rank and len(dtypes) == 1 and all(storage_of(dtype) for dtype in dtypes)


def emit_join(memory: Memory, node: Node) -> None:
    """Adds a copying step for each part."""
    given = arguments(node)
    shape = to_sizes(node.meta["val"].shape)
    dim = given["dim"] % len(shape)
    storage = storage_of(node.meta["val"].dtype)
    assert storage is not None
    whole = memory.store_of(node, storage, shape)
    start = 0
    for number, part in enumerate(given["tensors"]):
        view = memory.view(part)
        place = sliced(whole, dim, start, 1, view.shape[dim])
        memory.copy(view, place, f"{node.name}, part {number}")
        start = start + view.shape[dim]
