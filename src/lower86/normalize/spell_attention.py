"""Attention that PyTorch has taken apart is one operator again; arguments that are as by default go.

    scores = matmul(mul(q, c), mul(permute(k), c))                       q, k, v: [batch, heads, n, d] or [batch, n, d]
    scores = add(scores, mask)                                           if there is a mask
    safe   = where(logical_not(any(logical_not(eq(scores, -inf)), -1)), 0, softmax(scores, -1))
                         ->  _safe_softmax(scores, -1)
    matmul(safe, v)      ->  scaled_dot_product_attention(q, k, v, mask, scale=c * c)

A number by which all queries are multiplied before they are moved becomes part of the scale.

Rows whose keys are all masked give 0 in all three. Attention that a model writes out itself, without that rule, is not
for this pass (`spell_written_attention`); one whose scores or weights are quantized stays, but for its softmax.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32, order_of, same_shape, shape_of, source_of, tensor_of
from ..graph.edit import insert, replace
from .filled import number_in

_A = torch.ops.aten


def spell_attention(module: GraphModule) -> None:
    """Rewrites decomposed attention to `scaled_dot_product_attention`, or at least its softmax to one operator."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.where.self):
            _spell_softmax(module, node)
    for node in list(module.graph.nodes):
        if is_call(node, _A.scaled_dot_product_attention.default):
            _take_scale(node)
            _drop_defaults(node)
        elif is_call(node, _A.matmul.default) and len(shape_of(node)) in (3, 4):
            _spell(module, node)


def _take_scale(node: Node) -> None:
    """The number that queries are multiplied with is part of the scale; what gives them may merge with the keys'."""
    given = arguments(node)
    reader, q = node, given["query"]
    while is_call(q, _A.reshape.default, _A.permute.default) and len(q.users) == 1:
        reader, q = q, source_of(q)
    inner, factor = _scaled(q)
    width = shape_of(given["query"])[-1]
    if inner is q or len(q.users) != 1 or not isinstance(width, int) or not is_float32(inner):
        return
    scale = given["scale"] if given["scale"] is not None else width**-0.5
    reader.replace_input_with(q, inner)
    node.kwargs = {**node.kwargs, "scale": scale * factor}


def _drop_defaults(node: Node) -> None:
    given = arguments(node)
    names = ["query", "key", "value", *(["attn_mask"] if given["attn_mask"] is not None else [])]
    kept = {"dropout_p": given["dropout_p"] != 0, "is_causal": given["is_causal"], "enable_gqa": given["enable_gqa"]}
    node.args = tuple(given[name] for name in names)
    node.kwargs = {name: given[name] for name, wanted in kept.items() if wanted}
    if given["scale"] is not None and not _is_usual(given["scale"], given["query"]):
        node.kwargs = {**node.kwargs, "scale": given["scale"]}


def _is_usual(scale: Any, q: Node) -> bool:
    width = shape_of(q)[-1]
    return isinstance(width, int) and isinstance(scale, float) and math.isclose(scale, width**-0.5, rel_tol=1e-9)


def _spell(module: GraphModule, node: Node) -> None:
    safe: Any = node.args[0]
    if not is_call(safe, _A._safe_softmax.default) or tensor_of(safe).dtype != torch.float32:
        return
    given = arguments(safe)
    scores = given["self"]
    if given["dim"] % len(shape_of(safe)) != len(shape_of(safe)) - 1:
        return
    product: Any = scores
    mask: Any = None
    if is_call(scores, _A.add.Tensor) and arguments(scores)["alpha"] == 1:
        product, mask = scores.args
        if not is_call(product, _A.matmul.default):
            product, mask = mask, product
    if not is_call(product, _A.matmul.default) or not same_shape(shape_of(product), shape_of(scores)):
        return
    if mask is not None and not (isinstance(mask, Node) and len(shape_of(mask)) >= 2):
        return
    q, first = _scaled(product.args[0])
    transposed, second = _scaled(product.args[1])
    v: Any = node.args[1]
    if any(len(shape_of(operand)) != len(shape_of(node)) for operand in (q, transposed, v)):
        return
    if mask is not None:
        mask = _as_boolean(module, mask)
    replace(node, whole(node, q, untransposed(node, transposed), v, mask, first * second))


def untransposed(node: Node, k: Node) -> Node:
    """The keys before `node`, of keys whose last two dims have changed places."""
    rank = len(shape_of(k))
    order = [*range(rank - 2), rank - 1, rank - 2]
    if is_call(k, _A.permute.default):
        inner = order_of(k)
        k, order = source_of(k), [inner[d] for d in order]
    return k if order == list(range(rank)) else insert(node, _A.permute.default, (k, order), like=node)


def whole(node: Node, q: Node, k: Node, v: Node, mask: Node | None, scale: float) -> Node:
    """The attention that gives what `node`, its last product, does."""
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    named = {} if _is_usual(scale, q) else {"scale": scale}
    attention = _A.scaled_dot_product_attention.default
    return insert(node, attention, operands, named, like=node, value=node.meta["val"])


def _spell_softmax(module: GraphModule, safe: Node) -> None:
    """`where(not any(not (x == -inf)), 0, softmax(x))`, all along one dim, is `_safe_softmax(x)`."""
    rule: Any
    softmax: Any
    rule, zero, softmax = safe.args
    if not is_call(softmax, _A.softmax.int, _A._softmax.default) or number_in(module, zero) != 0:
        return
    scores, rank = source_of(softmax), len(shape_of(softmax))
    kept: Any = rule.args[0] if is_call(rule, _A.logical_not.default) else None
    if not is_call(kept, _A.any.dim) or not is_call(kept.args[0], _A.logical_not.default):
        return
    infinite = kept.args[0].args[0]
    if not is_call(infinite, _A.eq.Scalar) or infinite.args[0] is not scores or infinite.args[1] != -math.inf:
        return
    dim = softmax.args[1] % rank
    if arguments(kept)["dim"] % rank == dim and tensor_of(safe).dtype == tensor_of(scores).dtype:
        replace(safe, insert(safe, _A._safe_softmax.default, (scores, dim), like=safe, value=safe.meta["val"]))


def _scaled(operand: Any) -> tuple[Any, float]:
    """x and c of mul(x, c)."""
    if is_call(operand, _A.mul.Tensor, _A.mul.Scalar) and isinstance(operand.args[1], (int, float)):
        return operand.args[0], float(operand.args[1])
    return operand, 1.0


def _as_boolean(module: GraphModule, mask: Node) -> Node:
    """b of where(b, 0, -inf); any other mask is added as it is."""
    if is_call(mask, _A.where.self):
        condition, kept, left_out = mask.args
        if number_in(module, kept) == 0 and number_in(module, left_out) == -math.inf:
            assert isinstance(condition, Node)
            return condition
    return mask
