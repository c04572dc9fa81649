"""Rows are looked up as integers, and dequantized then: a table stays a quarter of the bytes.

    embedding(dequantize_per_tensor(w, s, z), i)      ->  dequantize_per_tensor(embedding(w, i), s, z)
    embedding(dequantize_per_channel(w, s, z, 1), i)  ->  dequantize_per_channel(embedding(w, i), s, z, last dim)
    embedding(dequantize_per_channel(w, s, z, 0), i)  ->  dequantize_per_token(embedding(w, i), s[i], z[i])
    embedding(dequantize_per_token(w, s, z), i)       ->  dequantize_per_token(embedding(w, i), s[i], z[i])

where s[i] is embedding(s, i), of a table with one column. Zero points that are all 0 are not looked up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import is_dequantize, is_row_dequantize, operators

_A = torch.ops.aten
_BYTES = (torch.int8, torch.uint8)


def move_tables(module: GraphModule) -> None:
    """Moves the dequantize of a table behind the embedding that reads it."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.embedding.default):
            table = node.args[0]
            # In float64 a dequantize is computed otherwise: as PyTorch does it, before.
            if is_dequantize(table) and tensor_of(node).dtype != torch.float64:
                _move(module, node, table)


def _move(module: GraphModule, node: Node, dequantize: Any) -> None:
    given, indices = arguments(dequantize), arguments(node)["indices"]
    if tensor_of(given["input"]).dtype not in _BYTES:
        return
    value, rows = node.meta["val"], insert(node, _A.embedding.default, (given["input"], indices), like=node)

    def call(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        name = node.name
        replace(node, insert(node, target, (rows, *args), kwargs, like=node, value=value))
        rows.name = name  # which reports know

    by_rows = is_row_dequantize(dequantize)
    if not by_rows and given.get("axis", 1) % 2:  # of the table's two dims: 1 and -1
        rest = list(dequantize.args[1:])
        if "axis" in given:
            rest[2] = value.dim() - 1
        call(dequantize.target, tuple(rest), dict(dequantize.kwargs))
        return
    scales = _looked_up(module, node, given["scales"], indices)
    zeros = given["zero_points"]
    constant = constant_of(module, zeros)
    if zeros is None or (constant is not None and not constant.any()):
        zeros = insert_constant(module, node, torch.zeros([1] * value.dim(), dtype=torch.int64), "_zero_points")
    else:
        zeros = _looked_up(module, node, zeros, indices)
    limits = (given["quant_min"], given["quant_max"], given["dtype"])
    call(operators().dequantize_per_token.default, (scales, zeros, *limits, value.dtype))


def _looked_up(module: GraphModule, node: Node, parameter: Node, indices: Node) -> Node:
    """The parameter of each row that is looked up, in a last dim of 1."""
    constant = constant_of(module, parameter)
    if constant is not None:
        column = insert_constant(module, node, constant.reshape(-1, 1), "_by_row")
    else:
        column = insert(node, _A.reshape.default, (parameter, [-1, 1]), like=node)
    return insert(node, _A.embedding.default, (column, indices), like=node)
