"""Which operators are contractions, and which operands they multiply; and which look rows up in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.fx import Node

from ..graph.arguments import is_float
from .memory import Memory

_A = torch.ops.aten

LINEARS: dict[Any, tuple[int, int]] = {_A.linear.default: (0, 1)}
PRODUCTS: dict[Any, tuple[int, int]] = {
    _A.mm.default: (0, 1),
    _A.bmm.default: (0, 1),
    _A.matmul.default: (0, 1),
    _A.addmm.default: (1, 2),
    _A.baddbmm.default: (1, 2),
}
CONVOLUTIONS: dict[Any, int] = {
    _A.conv1d.default: 0,
    _A.conv2d.default: 0,
    _A.conv3d.default: 0,
    _A.conv1d.padding: 0,
    _A.conv2d.padding: 0,
    _A.conv3d.padding: 0,
    _A.conv_transpose1d.default: 1,
    _A.conv_transpose2d.input: 1,
    _A.conv_transpose3d.input: 1,
}
"""The axis of the output channels in each convolution's weight."""

SPATIAL: dict[Any, int] = {target: int(str(target).partition("d.")[0][-1]) for target in CONVOLUTIONS}
"""The number of dims behind the channels in what each convolution reads and gives; its name says it."""

TABLES: dict[Any, int] = {_A.embedding.default: 0}
"""The argument that is the table of each operator that looks rows up."""

Family = Literal["linear", "convolution", "product"]


@dataclass(frozen=True)
class Contraction:
    """A node that multiplies and adds: by a constant weight, or two activations by each other.

    `axis` is that of the weight's output channels. A "linear" has one activation and a constant weight, however it is
    spelled; a "product" two activations and no weight.
    """

    node: Node
    family: Family
    activations: tuple[Node, ...]
    weight: Node | None = None
    axis: int = 0


def contraction_of(node: Node, memory: Memory) -> Contraction | None:
    """The contraction that `node` computes; None if it is none, or one that cannot be quantized.

    That is one whose operands are empty, not floats, all constant or written in place later, or vectors of a product.
    """
    if node.op != "call_function":
        return None
    left, right, axis = 0, 1, 0
    if node.target in PRODUCTS:
        left, right = PRODUCTS[node.target]
    elif node.target in CONVOLUTIONS:
        axis = CONVOLUTIONS[node.target]
    elif node.target not in LINEARS:
        return None
    operands = node.args[left : right + 1]
    if len(operands) != 2:
        return None
    first, second = operands
    least = 1 if node.target in LINEARS else 2
    if not (_is_quantizable(first, memory, least) and _is_quantizable(second, memory, 2)):
        return None
    assert isinstance(first, Node)
    assert isinstance(second, Node)
    constant = memory.is_constant(first), memory.is_constant(second)
    if constant == (True, True):
        return None
    if node.target in CONVOLUTIONS:
        return Contraction(node, "convolution", (first,), second, axis) if constant[1] else None
    if constant == (False, False):
        return Contraction(node, "product", (first, second))
    if constant[1]:
        axis = 0 if node.target in LINEARS else rank(second) - 1
        return Contraction(node, "linear", (first,), second, axis)
    return Contraction(node, "linear", (second,), first, max(rank(first) - 2, 0))


def table_of(node: Node, memory: Memory) -> Node | None:
    """The constant table of floats, [rows, columns], that `node` looks rows up in; None if it does no such thing."""
    if node.op != "call_function" or node.target not in TABLES:
        return None
    table = node.args[TABLES[node.target]]
    if not (isinstance(table, Node) and _is_quantizable(table, memory, 2) and memory.is_constant(table)):
        return None
    return table


def _is_quantizable(operand: object, memory: Memory, least_rank: int) -> bool:
    return (
        isinstance(operand, Node)
        and is_float(operand)
        and rank(operand) >= least_rank
        and all(size != 0 for size in operand.meta["val"].shape if isinstance(size, int))
        and memory.is_stable(operand)
    )


def rank(node: Node) -> int:
    """The number of dims of a node's tensor."""
    return int(node.meta["val"].dim())
