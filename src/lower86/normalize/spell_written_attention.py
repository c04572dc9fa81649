"""Attention that a model writes out itself is one operator, where its weights are certain to be numbers.

    scores = matmul(q, permute(k)) · c                              q, k, v: [batch, heads, n, d] or [batch, n, d]
    scores = where(keep, scores + bias, -3.4e38)                    whatever masks them (`masked_scores.py`)
    matmul(softmax(scores, -1), v)   ->   scaled_dot_product_attention(q, k, v, where(keep, bias, -3.4e38), scale=c)

A row of scores that are all -inf is NaN when written out, and 0 in the operator. So the mask must be known to be finite
(`bounds`); then only a product that overflows could tell the two apart. Attention whose operands or weights are
quantized stays, and so does one whose scores or weights somebody else reads, or rounded to another dtype.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32, same_shape, shape_of, source_of
from ..graph.edit import replace
from ..graph.qparams import is_dequantize
from ..ops.attention import MOST_DIMS
from .bounds import bounds
from .masked_scores import Filled, is_only_read, masked_scores_of, without_scale
from .move_dequantize import MOVEMENT
from .one_mask import Batches, can_be_one_mask, one_mask
from .spell_attention import untransposed, whole

_A = torch.ops.aten


def spell_written_attention(module: GraphModule) -> None:
    """Rewrites `matmul(softmax(…), v)` to `scaled_dot_product_attention`."""
    for node in list(module.graph.nodes):
        if is_call(node, _A.matmul.default) and len(shape_of(node)) in (3, 4):
            _spell(module, node)


def _spell(module: GraphModule, node: Node) -> None:
    weights: Any = node.args[0]
    v: Any = node.args[1]
    if not is_call(weights, _A.softmax.int) or not is_only_read(weights) or not is_float32(source_of(weights)):
        return
    given = arguments(weights)
    if given["dim"] % len(shape_of(weights)) != len(shape_of(weights)) - 1 or given["dtype"] not in (
        None,
        torch.float32,
    ):
        return
    found = masked_scores_of(module, given["self"])
    if found is None or found.is_rounded or not same_shape(shape_of(found.product), shape_of(weights)):
        return
    (q, first), (transposed, second) = (without_scale(module, operand) for operand in found.product.args)
    if not all(is_float32(x) and len(shape_of(x)) == len(shape_of(node)) for x in (q, transposed, v)):
        return
    batches = Batches(shape_of(q)[:-2], q)
    if any(_is_quantized(x) for x in (q, transposed, v)) or not can_be_one_mask(found, batches):
        return
    if any(isinstance(term, Filled) and term.fill == -math.inf for term in found.terms):
        return
    _, mask = one_mask(module, node, found, batches)
    k = untransposed(node, transposed)
    if not _have_kernel(q, k, v) or (mask is not None and bounds(module, mask) is None):
        return
    replace(node, whole(node, q, k, v, mask, found.factor * first * second))


def _is_quantized(x: Node) -> bool:
    while is_call(x, *MOVEMENT):
        x = source_of(x)
    return is_dequantize(x)


def _have_kernel(q: Node, k: Node, v: Node) -> bool:
    (*batch, _, width), keys, values = shape_of(q), shape_of(k), shape_of(v)
    alike = same_shape(keys[:-2], batch) and same_shape(values[:-2], batch) and same_shape(keys[-2:-1], values[-2:-1])
    return alike and all(isinstance(size, int) and 0 < size <= MOST_DIMS for size in (width, values[-1]))
