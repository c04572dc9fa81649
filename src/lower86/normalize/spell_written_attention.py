"""Attention that a model writes out itself is one operator, where its weights are certain to be numbers.

    scores = matmul(q, permute(k)) · c                              q, k, v: [batch, heads, n, d] or [batch, n, d]
    scores = add(scores, bias), where(keep, scores, -3.4e38)        any number of times, or never
    matmul(softmax(scores, -1), v)   ->   scaled_dot_product_attention(q, k, v, bias + where(keep, 0, -3.4e38), scale=c)

A row of scores that are all -inf is NaN when written out, and 0 in the operator. So all that is added must be known to
be finite (`bounds`); then only a product that overflows all along a row could tell the two apart. Attention whose
operands or weights are quantized stays, and so does one whose scores or weights somebody else reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, same_shape, shape_of, source_of, tensor_of
from ..graph.edit import constant_of, insert, replace
from ..graph.qparams import is_dequantize
from .bounds import bounds
from .move_dequantize import MOVEMENT
from .spell_attention import untransposed, whole

_A = torch.ops.aten
_HIDES = -1e30
"""What is below it hides a score: their sum is itself."""
_WIDEST_HEAD = 512


def spell_written_attention(module: GraphModule) -> None:
    """Rewrites `matmul(softmax(…), v)` to `scaled_dot_product_attention`."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.matmul.default) and len(shape_of(node)) in (3, 4):
            _spell(module, node)


def _spell(module: GraphModule, node: Node) -> None:
    weights: Any = node.args[0]
    v: Any = node.args[1]
    if not _is_own(weights, _A.softmax.int) or tensor_of(source_of(weights)).dtype != torch.float32:
        return
    given = arguments(weights)
    if given["dim"] % len(shape_of(weights)) != len(shape_of(weights)) - 1 or given["dtype"] not in (
        None,
        torch.float32,
    ):
        return
    scores, added = _without_masks(module, node, given["self"])
    product, scale = _without_scale(module, scores)
    if product is None or not _is_own(product, _A.matmul.default):
        return
    (q, first), (transposed, second) = (_without_scale(module, operand) for operand in product.args)
    if not all(isinstance(x, Node) and len(shape_of(x)) == len(shape_of(node)) for x in (q, transposed, v)):
        return
    if any(_is_quantized(x) for x in (q, transposed, v)) or not same_shape(shape_of(product), shape_of(weights)):
        return
    total: Any = None
    for mask in added:
        total = mask if total is None else insert(node, _A.add.Tensor, (mask, total), like=node)
    k = untransposed(node, transposed)
    if not _have_kernel(q, k, v) or (total is not None and bounds(module, total) is None):
        return
    replace(node, whole(node, q, k, v, total, scale * first * second))


def _without_masks(module: GraphModule, node: Node, scores: Node) -> tuple[Node, list[Node]]:
    """The scores before masks were added, and what was added, the innermost last."""
    added: list[Node] = []
    while True:
        operands: list[Any] = list(scores.args)
        if _is_own(scores, _A.add.Tensor) and arguments(scores)["alpha"] == 1:
            inner = next((x for x in operands if _is_score(x)), None)
            rest = [x for x in operands if x is not inner]
            if inner is None or len(rest) != 1 or not isinstance(rest[0], Node) or len(shape_of(rest[0])) < 2:
                return scores, added
            added.append(rest[0])
        elif _is_own(scores, _A.where.ScalarSelf, _A.where.ScalarOther):
            keep, *chosen = operands
            position = 0 if is_call(scores, _A.where.ScalarOther) else 1
            inner, number = chosen[position], chosen[1 - position]
            if not _is_score(inner) or not _hides(number) or len(shape_of(keep)) < 2:
                return scores, added
            choices = [number, number]
            choices[position] = 0.0
            added.append(_numbers(module, node, keep, *choices))
        else:
            return scores, added
        scores = inner


def _is_score(x: object) -> bool:
    """Whether x is a product, or what masks and scales make of one."""
    if _is_own(x, _A.add.Tensor, _A.mul.Tensor, _A.div.Tensor, _A.where.ScalarSelf, _A.where.ScalarOther):
        assert isinstance(x, Node)
        return any(_is_score(part) for part in x.args)
    return _is_own(x, _A.matmul.default)


def _hides(number: object) -> bool:
    return isinstance(number, float) and torch.finfo(torch.float32).min <= number <= _HIDES


def _numbers(module: GraphModule, node: Node, keep: Node, chosen: float, other: float) -> Node:
    zero = insert(node, _A.full.default, ([], other), {"dtype": torch.float32}, like=node)
    return insert(node, _A.where.ScalarSelf, (keep, chosen, zero), like=node)


def _without_scale(module: GraphModule, x: Any) -> tuple[Any, float]:
    """y and c of mul(y, c) or div(y, 1 / c)."""
    if not is_call(x, _A.mul.Tensor, _A.mul.Scalar, _A.div.Tensor, _A.div.Scalar) or len(x.users) != 1:
        return x, 1.0
    number = x.args[1]
    constant = constant_of(module, number)
    if constant is not None and constant.numel() == 1 and constant.dim() <= 1 and constant.is_floating_point():
        number = constant.item()
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number == 0:
        return x, 1.0
    return x.args[0], 1.0 / number if is_call(x, _A.div.Tensor, _A.div.Scalar) else float(number)


def _is_own(node: object, *targets: Any) -> bool:
    return isinstance(node, Node) and is_call(node, *targets) and len(node.users) == 1


def _is_quantized(x: Node) -> bool:
    while is_call(x, *MOVEMENT):
        x = source_of(x)
    return is_dequantize(x)


def _have_kernel(q: Node, k: Node, v: Node) -> bool:
    (*batch, _, width), keys, values = shape_of(q), shape_of(k), shape_of(v)
    alike = same_shape(keys[:-2], batch) and same_shape(values[:-2], batch) and same_shape(keys[-2:-1], values[-2:-1])
    return alike and all(isinstance(size, int) and 0 < size <= _WIDEST_HEAD for size in (width, values[-1]))
