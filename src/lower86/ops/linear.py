"""`lower86::int8_linear`: an exact integer contraction of a quantized activation with a quantized weight.

    y[…, n] = float32(Σ_k (x[…, k] - x_zero_point) · weight[n, k]) · scale[n] + bias[n]

`scale[n]` is the activation's scale times the weight's, in float32. The sum is exact, whatever K; what follows it is
rounded once (fma). With dynamic quantization the activation's part is known at run time: `row_zero_point` adds to
x_zero_point, `row_scale` multiplies scale; both broadcast to [..., 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from .registration import operator

SCHEMA = (
    "int8_linear(Tensor x, Tensor weight, Tensor? bias=None, *, int x_zero_point, Tensor scale, "
    "Tensor? row_zero_point=None, Tensor? row_scale=None) -> Tensor"
)


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    x_zero_point: int,
    scale: Tensor,
    row_zero_point: Tensor | None = None,
    row_scale: Tensor | None = None,
) -> Tensor:
    """x: u8 or s8 [..., K]; weight: s8 [N, K]; bias, scale: f32 [N]; rows' own: integers, f32. Gives f32 [..., N]."""
    centred = x.to(torch.int64) - x_zero_point
    if row_zero_point is not None:
        centred = centred - row_zero_point.to(torch.int64)
    exact = torch.matmul(centred, weight.to(torch.int64).T)
    return scaled(exact, scale if row_scale is None else scale * row_scale, bias)


def scaled(exact: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """float32(exact) · scale + bias, all but rounded once: float64 holds the product exactly."""
    y = exact.to(torch.float32).to(torch.float64) * scale
    return (y if bias is None else y + bias).to(torch.float32)


def fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    x_zero_point: int,
    scale: Tensor,
    row_zero_point: Tensor | None = None,
    row_scale: Tensor | None = None,
) -> Tensor:
    """The result's shape and dtype."""
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=torch.float32)


int8_linear = operator(SCHEMA, reference, fake)
