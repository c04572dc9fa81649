"""Reads by strides become reads by index, while strides still mean something.

    as_strided(x, its own size and stride)  ->  x
    as_strided(x, size, stride, offset)  ->  index(reshape(permute(x, as it lies), [-1]), [constant places])

Later passes drop copies that only change how a tensor lies, and the scheduler lays tensors out as it likes.
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..errors import GraphError
from ..graph.arguments import arguments, is_call, same_shape, same_size, tensor_of
from ..graph.edit import insert, insert_constant, replace
from ..graph.source import describe

_A = torch.ops.aten
STRIDED = (_A.as_strided.default, _A.as_strided_copy.default)


def spell_strides(module: GraphModule) -> None:
    """Rewrites `as_strided` of tensors whose elements fill their memory. Raises GraphError for any other."""
    for node in list(module.graph.nodes):
        if is_call(node, *STRIDED):
            _spell(module, node)


def _spell(module: GraphModule, node: Node) -> None:
    given = arguments(node)
    source, offset = given["self"], given["storage_offset"] or 0
    if _is_itself(tensor_of(node), tensor_of(source)):
        replace(node, source)
        return
    numbers = (*given["size"], *given["stride"], offset)
    order = _order(tensor_of(source))
    if order is None or not all(isinstance(number, int) for number in numbers):
        raise GraphError(
            "as_strided of a tensor that does not fill its memory, or by sizes that vary",
            where=describe(node),
            fix="say it by slicing, unfold, expand or indexing",
        )
    # Σ index·stride + offset, for every index of the result.
    places = torch.full((), offset, dtype=torch.int64)
    for size, stride in zip(given["size"], given["stride"], strict=True):
        places = places.unsqueeze(-1) + torch.arange(size) * stride
    flat: Any = source
    if order != sorted(order):
        flat = insert(node, _A.permute.default, (flat, order), like=node)
    flat = insert(node, _A.reshape.default, (flat, [-1]), like=node)
    constant = insert_constant(module, node, places, "_places")
    replace(node, insert(node, _A.index.Tensor, (flat, [constant]), like=node, value=node.meta["val"]))


def _is_itself(result: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether the result has all elements of the source where they are, whatever its sizes; 1 may have any stride."""
    if not same_shape(result.shape, source.shape) or not same_size(result.storage_offset(), source.storage_offset()):
        return False
    strides = zip(result.shape, result.stride(), source.stride(), strict=True)
    return all((isinstance(size, int) and size == 1) or same_size(a, b) for size, a, b in strides)


def _order(tensor: torch.Tensor) -> list[int] | None:
    """The dims as they lie in memory, or None if elements are missing there, repeated, or not at its beginning."""
    if not all(isinstance(size, int) for size in tensor.shape) or tensor.storage_offset() != 0:
        return None
    order = sorted(range(tensor.dim()), key=lambda d: (-tensor.stride()[d], d))
    wanted = reduce(operator.mul, tensor.shape, 1)
    for d in order:
        wanted //= max(tensor.shape[d], 1)
        if tensor.shape[d] != 1 and tensor.stride()[d] != wanted:
            return None
    return order
