"""Decomposed spellings become the whole operator again, and variants of one operator one of them.

native_layer_norm(x, …)[0]       ->  layer_norm(x, …)          _softmax(x, dim, False)      ->  softmax(x, dim)
layer_norm(…, cudnn_enable)      ->  layer_norm(…)             masked_fill(x, m, 2.0)       ->  where(m, 2.0, x)
clamp_min, clamp_max, hardtanh   ->  clamp(x, low, high)       relu6(x)                     ->  clamp(x, 0, 6)
where(m, constant 2.0, x)        ->  where(m, 2.0, x)          where(m, x, constant 2.0)    ->  where(m, x, 2.0)
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, same_shape, shape_of, tensor_of
from ..graph.edit import constant_of, insert, replace

_A = torch.ops.aten
_CLAMPS = (_A.clamp_min.default, _A.clamp_max.default, _A.hardtanh.default, _A.relu6.default)


def spell_composites(module: GraphModule) -> None:
    """Rewrites layer norms, softmaxes and selections."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.native_layer_norm.default):
            _spell_layer_norm(node)
        elif is_call(node, _A.layer_norm.default):
            node.args = node.args[:5]
        elif is_call(node, _A._softmax.default):
            source, dim, to_float = node.args
            if not to_float:
                replace(node, insert(node, _A.softmax.int, (source, dim), like=node, value=node.meta["val"]))
        elif is_call(node, *_CLAMPS):
            _spell_clamp(node)
        elif is_call(node, _A.masked_fill.Scalar, _A.masked_fill.Tensor):
            _spell_masked_fill(module, node)
        elif is_call(node, _A.where.self):
            _spell_where(module, node)


def _spell_clamp(node: Node) -> None:
    given = arguments(node)
    low: Any
    high: Any
    low, high = given.get("min", given.get("min_val")), given.get("max", given.get("max_val"))
    if is_call(node, _A.relu6.default):
        low, high = 0, 6
    if is_call(node, _A.hardtanh.default) and not tensor_of(node).dtype.is_floating_point:
        low, high = int(low), int(high)  # clamp would give floats for them
    operands = (given["self"], low) if high is None else (given["self"], low, high)
    replace(node, insert(node, _A.clamp.default, operands, like=node, value=node.meta["val"]))


def _spell_layer_norm(node: Node) -> None:
    firsts = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    if len(firsts) != len(node.users):
        return  # somebody reads the mean or the deviation as well
    given = arguments(node)
    operands = (given["input"], given["normalized_shape"], given["weight"], given["bias"], given["eps"])
    for first in firsts:
        replace(first, insert(node, _A.layer_norm.default, operands, like=node, value=first.meta["val"]))


def _spell_masked_fill(module: GraphModule, node: Node) -> None:
    source, mask, value = node.args
    assert isinstance(source, Node)
    number = _number(module, value)
    if number is not None and _fits(number, source) and same_shape(shape_of(node), shape_of(source)):
        replace(node, insert(node, _A.where.ScalarSelf, (mask, number, source), like=node, value=node.meta["val"]))


def _spell_where(module: GraphModule, node: Node) -> None:
    mask, chosen, other = node.args
    assert isinstance(chosen, Node)
    assert isinstance(other, Node)
    for value, tensor, target in ((chosen, other, _A.where.ScalarSelf), (other, chosen, _A.where.ScalarOther)):
        number = _number(module, value)
        if number is None or not _fits(number, tensor) or tensor_of(node).dtype != tensor_of(tensor).dtype:
            continue
        operands = (mask, number, tensor) if value is chosen else (mask, tensor, number)
        replace(node, insert(node, target, operands, like=node, value=node.meta["val"]))
        return


def _number(module: GraphModule, value: Any) -> float | int | bool | None:
    """A scalar, or the one of a constant without dims."""
    if isinstance(value, (bool, int, float)):
        return value
    if is_call(value, _A.scalar_tensor.default) or (is_call(value, _A.full.default) and not shape_of(value)):
        given = arguments(value)
        number = given.get("fill_value", given.get("s"))
        return None if isinstance(number, Node) else torch.tensor(number, dtype=tensor_of(value).dtype).item()
    constant = constant_of(module, value)
    return constant.item() if constant is not None and constant.dim() == 0 and not constant.is_complex() else None


def _fits(number: float | int | bool, tensor: Node) -> bool:
    """Whether `where` of the number and the tensor has the tensor's dtype."""
    dtype = tensor_of(tensor).dtype
    if isinstance(number, bool):
        return dtype == torch.bool
    return dtype.is_floating_point or (isinstance(number, int) and not dtype.is_complex and dtype != torch.bool)
