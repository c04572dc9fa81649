"""Attention whose products and weights are quantized.

    q, k   ->  scores = matmul(dequantize(q), dequantize(permute(k)))
    scores ->  softmax(mask(scores · c))  ->  quantize  ->  weights
    matmul(dequantize(weights), dequantize(v))   ->   lower86::int8_attention(q, k, v, mask, …)

What masks the scores becomes one mask (`normalize/masked_scores.py`, `one_mask.py`). Scores and weights may be reshaped
on their way, as long as their rows and columns stay: windows are batches for a while, and a group of heads that share
one key head is a dim of its own. Where the model rounds them to bf16 or f16, nothing is rounded, as between other
integers (`drop_roundings.py`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float, same_shape, same_size, shape_of, source_of
from ..graph.edit import insert
from ..graph.qparams import QParams, is_plain_quantize, is_whole_dequantize, qparams_of, same
from ..normalize.masked_scores import MaskedScores, is_only_read, masked_scores_of, through_changes
from ..normalize.one_mask import Batches, can_be_one_mask, one_mask
from ..normalize.shapes import size_at, sizes_of
from ..ops.attention import MOST_DIMS, int8_attention
from .operands import finish
from .record import Lowered, record, size_hint

_A = torch.ops.aten
_BYTES = (torch.uint8, torch.int8)
_LEAST_STEP = 2.0**-21
"""The kernel counts a weight's steps in the 23 bits of a float32."""


@dataclass(frozen=True)
class _Attention:
    """The parts of a quantized attention: its products, the dequantizes they read, the quantize between them."""

    scores: MaskedScores
    weights: Node
    query: Node
    key: Node
    value: Node

    @property
    def batches(self) -> Batches:
        """Those of the operator: heads of a group stand beside those of the others."""
        query = _source(self.query)
        *leading, _, _ = shape_of(query)
        return Batches((leading[0], leading[1] * leading[2]) if len(leading) == 3 else tuple(leading), query)


def lower_attention(module: GraphModule, node: Node) -> Lowered | None:
    """Rewrites an attention at its second product; its first is counted, and left to die."""
    if not is_call(node, _A.matmul.default):
        return None
    found = _attention(module, node)
    if found is not None:
        made = record(node, _macs(node))
        finish(node, _rewrite(module, node, found), made.node)
        return Lowered(made)
    last = _last_product(node)
    found = _attention(module, last) if last is not None else None
    if last is None or found is None or found.scores.product is not node:
        return None
    return Lowered(dataclasses.replace(record(node, _macs(node)), node=last.name))


def keep_lowered_attention(module: GraphModule, node: Node) -> Lowered | None:
    """Counts an attention that is int8 already, as in a lowered model that is lowered again."""
    if not is_call(node, int8_attention):
        return None
    *leading, queries, head_dim = shape_of(arguments(node)["query"])
    *_, keys, value_dim = shape_of(arguments(node)["value"])
    sizes = (*leading, queries, keys, head_dim + value_dim)
    return Lowered(record(node, math.prod(size_hint(size) for size in sizes)))


def _macs(product: Node) -> int:
    left: Any = product.args[0]
    return math.prod(size_hint(size) for size in (*shape_of(product), shape_of(left)[-1]))


def _last_product(scores: Node) -> Node | None:
    """The product that a chain of only readers leads to from the scores."""
    node, first = scores, scores
    while len(node.users) == 1:
        (node,) = node.users
        if is_call(node, _A.matmul.default):
            return node if node.args[0] is first else None
        first = node
    return None


def _attention(module: GraphModule, node: Node) -> _Attention | None:
    weights: Any
    value: Any
    query: Any
    key: Any
    weights, value = node.args[:2]
    if not (_is_static_dequantize(module, weights) and _is_static_dequantize(module, value)):
        return None
    quantize = through_changes(_source(weights))
    if not is_plain_quantize(quantize) or not qparams_of(module, quantize).is_static or not is_only_read(quantize):
        return None
    written, read = qparams_of(module, quantize), qparams_of(module, weights)
    if not same(written, read) or not isinstance(written.scale, float) or written.scale < _LEAST_STEP:
        return None
    softmax = through_changes(_source(quantize))
    if not is_call(softmax, _A.softmax.int, _A._softmax.default, _A._safe_softmax.default) or not is_float(softmax):
        return None
    rank = len(shape_of(softmax))
    if arguments(softmax)["dim"] % rank != rank - 1 or not is_only_read(softmax):
        return None
    scores = masked_scores_of(module, source_of(softmax))
    if scores is None:
        return None
    query, key = scores.product.args[:2]
    if not (_is_static_dequantize(module, query) and _is_static_dequantize(module, key)):
        return None
    found = _Attention(scores, quantize, query, key, value)
    return found if _fits(found, node) and can_be_one_mask(scores, found.batches) else None


def _is_static_dequantize(module: GraphModule, node: Any) -> bool:
    if not is_whole_dequantize(node):
        return False
    qparams = qparams_of(module, node)
    return qparams.is_static and qparams.dtype in _BYTES


def _source(node: Any) -> Node:
    assert isinstance(node, Node)
    return source_of(node)


def _fits(found: _Attention, product: Node) -> bool:
    q, k, v = (shape_of(node) for node in (found.query, found.key, found.value))
    if not len(q) == len(k) == len(v) or len(q) not in (3, 4, 5):
        return False
    if not (same_size(k[-1], v[-2]) and same_size(q[-1], k[-2]) and same_shape(k[:-2], v[:-2])):
        return False
    if not all(isinstance(size, int) and 0 < size <= MOST_DIMS for size in (q[-1], v[-1])):
        return False
    if len(q) == 5:  # a dim for the heads of a group, along which k and v are one
        return k[2] == 1 and same_shape(q[:2], k[:2]) and isinstance(q[1], int) and isinstance(q[2], int)
    return same_shape(q[:-2], k[:-2]) and same_shape(shape_of(product)[:-2], q[:-2])


def _rewrite(module: GraphModule, node: Node, found: _Attention) -> Node:
    q, k, v, p = (qparams_of(module, part) for part in (found.query, found.key, found.value, found.weights))
    query, key, value = (_source(part) for part in (found.query, found.key, found.value))
    rank = len(shape_of(query))
    key = insert(node, _A.permute.default, (key, [*range(rank - 2), rank - 1, rank - 2]), like=node)
    operands = [_without_group(node, part) if rank == 5 else part for part in (query, key, value)]
    is_causal, mask = one_mask(module, node, found.scores, found.batches)
    if mask is not None:
        operands.append(mask)
    parameters = _parameters(q, k, v, p, found.scores.factor, is_causal)
    result = insert(node, int8_attention, operands, parameters, like=node)
    if rank != 5:
        return result
    shape = [*sizes_of(node, query)[:-1], size_at(node, value, rank - 1)]
    return insert(node, _A.reshape.default, (result, shape), like=node)


def _without_group(before: Node, operand: Node) -> Node:
    batch, heads, group, *rest = sizes_of(before, operand)
    return insert(before, _A.reshape.default, (operand, [batch, heads * group, *rest]), like=before)


def _parameters(q: QParams, k: QParams, v: QParams, p: QParams, factor: float, is_causal: bool) -> dict[str, Any]:
    scales = [qparams.scale for qparams in (q, k, v, p)]
    q_scale, k_scale, v_scale, p_scale = (scale if isinstance(scale, float) else 1.0 for scale in scales)
    return {
        **({"is_causal": True} if is_causal else {}),
        "query_zero_point": q.zero_point,
        "key_zero_point": k.zero_point,
        "score_scale": q_scale * k_scale * factor,
        "weight_scale": p_scale,
        "weight_zero_point": p.zero_point,
        "weight_low": p.low,
        "weight_high": p.high,
        "value_zero_point": v.zero_point,
        "scale": p_scale * v_scale,
    }
