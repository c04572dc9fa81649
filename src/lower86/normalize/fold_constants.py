"""Everything computable from constants is computed, once, now. A quantized weight stays quantized.

add(arange(128), 0)              ->  constant
dequantize(constant, …)          stays: folding stops at a weight's dequantize
embedding(dequantize(constant, …), constant)  ->  constant        rows that are always the same ones
ones_like(x)                     ->  constant        if it is small
and(what is surely True, mask)   ->  expand(mask)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, function_of, is_call, is_pure, same_shape, shape_of, tensor_of
from ..graph.edit import constant_of, insert, insert_constant, replace
from ..graph.qparams import dequantized_constant, is_dequantize
from .bounds import AND, OR, bounds
from .shapes import broadcast_sizes

_A = torch.ops.aten
_LIMIT = 1 << 26
"""Bytes: a constant larger than its inputs and than this is cheaper to compute than to keep."""

_FILLS = (
    _A.ones_like.default, _A.zeros_like.default, _A.full_like.default, _A.new_ones.default, _A.new_zeros.default,
    _A.new_full.default,
)  # fmt: skip
"""What reads only the shape and the dtype of its operand."""
_SMALL = 1 << 12
"""Elements of a fill: more are cheaper to write than to read."""


def fold_constants(module: GraphModule) -> None:
    """Replaces nodes whose inputs are all constants; then simplifies `and`/`or` with what has one value only."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or is_dequantize(node) or not is_pure(node):
            continue
        inputs = node.all_input_nodes
        if is_call(node, *_FILLS) and _is_small(node):
            constants = {n: _stand_in(n) for n in inputs}
        else:
            constants = {n: constant_of(module, n) for n in inputs}
        if is_call(node, _A.embedding.default) and constants[node.all_input_nodes[-1]] is not None:
            constants = {n: dequantized_constant(module, n) for n in inputs}
        if any(c is None for c in constants.values()) or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        fake = tensor_of(node)
        if not all(isinstance(s, int) for s in fake.shape) or fake.numel() * fake.element_size() > _LIMIT:
            continue
        args: Any = torch.fx.node.map_arg(node.args, constants.__getitem__)
        kwargs: Any = torch.fx.node.map_arg(node.kwargs, constants.__getitem__)
        with torch.no_grad():
            result = function_of(node)(*args, **kwargs)
        constant = insert_constant(module, node, result, "_folded")
        constant.meta.update({k: v for k, v in node.meta.items() if k != "val"})
        constant.meta["computed_by"] = str(node.target)  # for whoever wonders what this was
        replace(node, constant)
    for node in list(module.graph.nodes):
        _simplify_logic(module, node)


def _is_small(node: Node) -> bool:
    """Whether the node's tensor has few elements in every call: asking a size that varies would add a guard on it."""
    shape = shape_of(node)
    return all(isinstance(size, int) for size in shape) and math.prod(shape) <= _SMALL


def _stand_in(node: Node) -> torch.Tensor | None:
    """Any tensor of the node's shape and dtype, or None where its shape varies."""
    example = node.meta.get("val")
    if not isinstance(example, torch.Tensor) or not all(isinstance(size, int) for size in example.shape):
        return None
    return torch.empty(tuple(example.shape), dtype=example.dtype)


def _simplify_logic(module: GraphModule, node: Node) -> None:
    """x & y, where all of y is surely True, and x | y, where none is  ->  x, expanded to the result's shape."""
    if not is_call(node, *AND, *OR) or tensor_of(node).dtype != torch.bool:
        return
    neutral = (1.0, 1.0) if is_call(node, *AND) else (0.0, 0.0)
    given = list(arguments(node).values())
    for certain, other in (given, given[::-1]):
        if not isinstance(other, Node) or tensor_of(other).dtype != torch.bool or bounds(module, certain) != neutral:
            continue
        if not same_shape(shape_of(other), shape_of(node)):
            other = insert(node, _A.expand.default, (other, broadcast_sizes(node, [other, certain])), like=node)
        replace(node, other)
        return


def fold_dequantized_weights(module: GraphModule) -> None:
    """After the int8 rules: a weight that is still dequantized belongs to a float contraction, and becomes float."""
    for node in list(module.graph.nodes):
        weight = dequantized_constant(module, node) if is_dequantize(node) else None
        if weight is not None:
            constant = insert_constant(module, node, weight, "_float_weight")
            constant.meta.update({k: v for k, v in node.meta.items() if k != "val"})
            replace(node, constant)
