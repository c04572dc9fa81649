"""Linears of one input become one linear: queries, keys and values in a single contraction.

    int8_linear(x, w1, b1)  -.                                  .-  slice(y, -1, 0, n1)
    int8_linear(x, w2, b2)  -+->  y = int8_linear(x, [w1; w2])  -+-  slice(y, -1, n1, n1 + n2)

Only where what follows is movement, attention, another product or a recurrence: a pointwise epilogue is worth more than
the merge, and could no longer be part of the contraction. A cast to a narrower float is part of it all the same.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..normalize.move_dequantize import MOVEMENT
from ..normalize.precision import NARROW, as_dtype
from ..ops.linear import int8_linear
from ..ops.recurrent import RECURRENCES

_A = torch.ops.aten
_READERS = (*MOVEMENT, _A.scaled_dot_product_attention.default, _A.matmul.default, _A.bmm.default, *RECURRENCES)


def merge_siblings(module: GraphModule) -> None:
    """Merges int8 linears that read the same input with the same zero point."""
    families: dict[tuple[Node, int, torch.dtype], list[Node]] = {}
    for node in module.graph.nodes:
        if is_call(node, int8_linear) and _can_merge(module, node):
            given = arguments(node)
            key = given["x"], given["x_zero_point"], tensor_of(_result(node)).dtype
            families.setdefault(key, []).append(node)
    for family in families.values():
        if len(family) > 1:
            _merge(module, family)


def _can_merge(module: GraphModule, node: Node) -> bool:
    given = arguments(node)
    if given["row_scale"] is not None:
        return False
    operands = [given[name] for name in ("weight", "scale", "bias") if given[name] is not None]
    constant = all(constant_of(module, operand) is not None for operand in operands)
    return constant and all(is_call(user, *_READERS) for user in _result(node).users)


def _result(node: Node) -> Node:
    """The linear, or the cast to a narrower float that alone reads it."""
    (reader, *others) = list(node.users) or [node]
    is_cast = is_call(reader, _A._to_copy.default) and tensor_of(reader).dtype in NARROW
    return reader if is_cast and not others else node


def _merge(module: GraphModule, family: list[Node]) -> None:
    first = family[0]
    parts = [arguments(node) for node in family]

    def joined(name: str) -> torch.Tensor:
        tensors = []
        for node, given in zip(family, parts, strict=True):
            tensor = constant_of(module, given[name]) if given[name] is not None else None
            tensors.append(torch.zeros(shape_of(node)[-1]) if tensor is None else tensor)
        return torch.cat(tensors)

    weight, scale = (insert_constant(module, first, joined(name), f"_merged_{name}") for name in ("weight", "scale"))
    operands = [parts[0]["x"], weight]
    if any(given["bias"] is not None for given in parts):
        operands.append(insert_constant(module, first, joined("bias"), "_merged_bias"))
    qparams = {"x_zero_point": parts[0]["x_zero_point"], "scale": scale}
    whole = as_dtype(first, insert(first, int8_linear, operands, qparams, like=first), tensor_of(_result(first)).dtype)
    start, pieces = 0, []
    for node in family:
        size = shape_of(node)[-1]
        dim = tensor_of(node).dim() - 1
        pieces.append(insert(first, _A.slice.Tensor, (whole, dim, start, start + size, 1), like=node))
        start += size
    for node, piece in zip(family, pieces, strict=True):
        name, result = node.name, _result(node)
        replace(result, piece)
        if result is not node:
            node.graph.erase_node(node)
        piece.name = name  # reports look the linear up by its name
