"""Attention spelled out, so that each of its four operands can be quantized.

    attention(q, k, v, mask)   ->   p = softmax(q @ transpose(k) * scale + mask);   p @ v

A boolean mask becomes a `where`, a causal one compares places. With grouped heads, the heads of a group are a dim of
their own along which k and v are broadcast, so that nobody copies them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float, tensor_of
from ..graph.edit import insert, insert_constant, replace
from .memory import Memory

_A = torch.ops.aten
ATTENTION = _A.scaled_dot_product_attention.default
_MARK = "lower86_attention"


def is_attention(node: Node) -> bool:
    """Whether the node is an attention, or one of the two products of one that is spelled out."""
    return is_call(node, ATTENTION) or _MARK in node.meta


def take_apart_attention(module: GraphModule, is_wanted: Callable[[Node], bool]) -> None:
    """Takes apart every attention that `is_wanted` says to, if its head dims are numbers."""
    wanted = [
        node for node in module.graph.nodes if is_call(node, ATTENTION) and _can_take_apart(node) and is_wanted(node)
    ]
    for node in wanted:
        _take_apart(module, node)
    # PyTorch's attention lays its result out as the queries are, so that a view can merge heads; a product does not. A
    # reshape may copy: where somebody writes, that would not be seen, and the view stays.
    memory = Memory(module.graph)
    for view in module.graph.find_nodes(op="call_function", target=_A.view.default) if wanted else ():
        if memory.is_stable(view):
            view.target = _A.reshape.default


def _can_take_apart(node: Node) -> bool:
    given = arguments(node)
    operands = [given[name] for name in ("query", "key", "value")]
    if not all(is_float(operand) for operand in operands):
        return False
    query, key, value = (tensor_of(operand) for operand in operands)
    heads = [tensor.shape[-3] for tensor in (query, key, value)] if given["enable_gqa"] else []
    if len(heads) and heads[1] != heads[2]:
        return False
    return all(isinstance(size, int) for size in (query.shape[-1], *heads))


def _take_apart(module: GraphModule, node: Node) -> None:
    given = arguments(node)
    query, key, value = given["query"], given["key"], given["value"]
    width = tensor_of(query).shape[-1]
    scale = given["scale"] if given["scale"] is not None else 1.0 / math.sqrt(width)
    groups: list[int] = []
    if given["enable_gqa"] and tensor_of(query).shape[-3] != tensor_of(key).shape[-3]:
        kept = tensor_of(key).shape[-3]
        groups = [kept, tensor_of(query).shape[-3] // kept]

    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    if groups:
        query = call(_A.unflatten.int, query, -3, groups)
        key, value = (call(_A.unsqueeze.default, operand, -3) for operand in (key, value))
    scores = call(_A.matmul.default, query, call(_A.transpose.int, key, -2, -1))
    scores.meta[_MARK] = True
    if groups:
        scores = call(_A.flatten.using_ints, scores, -4, -3)
    scores = call(_A.mul.Tensor, scores, scale)
    mask = given["attn_mask"]
    if given["is_causal"]:
        mask = _triangle(node, scores)
    if mask is not None:
        if tensor_of(mask).dtype == torch.bool:
            # A tensor: strict export takes the literal `-inf` in a graph's code for a variable.
            nothing = insert_constant(module, node, torch.tensor(-math.inf), "_masked")
            scores = call(_A.where.self, mask, scores, nothing)
        else:
            scores = call(_A.add.Tensor, scores, mask)
    # PyTorch's attention gives 0 where a mask leaves no key; a causal one always leaves the first.
    rows = (_A._safe_softmax.default,) if mask is not None and not given["is_causal"] else (_A.softmax.int,)
    weights = call(*rows, scores, -1)
    if given["dropout_p"]:
        weights = call(_A.dropout.default, weights, given["dropout_p"], True)
    if groups:
        weights = call(_A.unflatten.int, weights, -3, groups)
    result = call(_A.matmul.default, weights, value)
    result.meta[_MARK] = True
    if groups:
        result = call(_A.flatten.using_ints, result, -4, -3)
    replace(node, result)


def _triangle(node: Node, scores: Node) -> Node:
    """Which keys each query may see: those up to its own place."""
    example = tensor_of(scores)
    places = []
    with getattr(example, "fake_mode", nullcontext()):  # `arange` has no operand whose mode its example could be in
        for dim in (-2, -1):
            size: Any = example.shape[dim]
            if not isinstance(size, int):
                size = insert(node, _A.sym_size.int, (scores, dim), like=node, value=size)
            places.append(insert(node, _A.arange.default, (size,), {"device": example.device}, like=node))
        rows = insert(node, _A.unsqueeze.default, (places[0], -1), like=node)
        return insert(node, _A.ge.Tensor, (rows, places[1]), like=node)
