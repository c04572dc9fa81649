"""`lower86::int8_attention`: attention whose two products are exact integer ones, between them a quantized softmax.

    scores  = float32(Σ_d (query[i, d] - query_zero_point) · (key[j, d] - key_zero_point)) · score_scale, masked
    weights = clamp(round(softmax(scores) / weight_scale) + weight_zero_point, weight_low, weight_high)
    y[i, d] = float32(Σ_j (weights[i, j] - weight_zero_point) · (value[j, d] - value_zero_point)) · scale

`score_scale` is the product of both scales and of attention's own, `scale` that of the weights' and the values'. Heads
are dim -3; a group of query heads may share one key head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .quantize import static_reference
from .registration import operator

MOST_DIMS = 512
"""The largest head that attention kernels take: a unit holds all dims of its queries."""

SCHEMA = (
    "int8_attention(Tensor query, Tensor key, Tensor value, Tensor? mask=None, *, bool is_causal=False, "
    "int query_zero_point, int key_zero_point, float score_scale, float weight_scale, int weight_zero_point, "
    "int weight_low, int weight_high, int value_zero_point, float scale) -> Tensor"
)


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    query_zero_point: int,
    key_zero_point: int,
    score_scale: float,
    weight_scale: float,
    weight_zero_point: int,
    weight_low: int,
    weight_high: int,
    value_zero_point: int,
    scale: float,
) -> Tensor:
    """query: u8 or s8 [..., heads, n, d]; key [..., heads or fewer, m, d]; value [..., m, e]. Gives f32 [..., n, e].

    mask: broadcast to [..., n, m]; bool (False: the key is left out) or f32 (added). Causal: key j counts for query i
    only if j <= i. A row with no key at all has weights of 0.
    """
    if query.dim() > 3 and query.shape[-3] != key.shape[-3]:
        key, value = (x.repeat_interleave(query.shape[-3] // key.shape[-3], -3) for x in (key, value))
    q, k, v = (
        x.to(torch.int64) - zero
        for x, zero in ((query, query_zero_point), (key, key_zero_point), (value, value_zero_point))
    )
    scores = torch.matmul(q, k.transpose(-2, -1)).to(torch.float32) * score_scale
    if is_causal:
        scores = torch.where(torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), scores, -torch.inf)
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf) if mask.dtype == torch.bool else scores + mask
    softmax = torch.nan_to_num(torch.softmax(scores, -1), nan=0.0)
    weights = static_reference(softmax, weight_scale, weight_zero_point, weight_low, weight_high, torch.int64)
    return torch.matmul(weights - weight_zero_point, v).to(torch.float32) * scale


def fake(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **parameters: object) -> Tensor:
    """The result's shape and dtype."""
    return query.new_empty((*query.shape[:-1], value.shape[-1]), dtype=torch.float32)


int8_attention = operator(SCHEMA, reference, fake)
