"""Sizes as arguments of new nodes: numbers where they are known, else nodes that read them off a tensor."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import same_size, shape_of
from ..graph.edit import insert

_A = torch.ops.aten


def size_at(before: Node, tensor: Node, dim: int) -> Any:
    """The size of a dim, as an argument for a node before `before`."""
    size = shape_of(tensor)[dim]
    if isinstance(size, int):
        return size
    return insert(before, _A.sym_size.int, (tensor, dim), like=before, value=size)


def sizes_of(before: Node, tensor: Node) -> list[Any]:
    """`size_at` of every dim."""
    return [size_at(before, tensor, dim) for dim in range(len(shape_of(tensor)))]


def broadcast_sizes(result: Node, operands: Sequence[Node]) -> list[Any]:
    """The sizes of what broadcasts these operands, as arguments for a node before it, which need not stay for them."""
    wanted, rank = shape_of(result), len(shape_of(result))
    sizes: list[Any] = list(wanted)
    for operand in operands:
        shape = shape_of(operand)
        for dim, size in enumerate(shape, rank - len(shape)):
            if not isinstance(sizes[dim], (int, Node)) and same_size(size, wanted[dim]):
                sizes[dim] = size_at(result, operand, dim - rank + len(shape))
    return sizes


def times(before: Node, size: Any, factor: Any) -> Any:
    """The product of two sizes."""
    if isinstance(size, int) and isinstance(factor, int):
        return size * factor
    return insert(before, operator.mul, (size, factor), like=before)


def quotient(before: Node, size: Any, divisor: Any) -> Any:
    """A size divided by one that divides it."""
    if isinstance(size, int) and isinstance(divisor, int):
        return size // divisor
    return insert(before, operator.floordiv, (size, divisor), like=before)
