"""`lower86::int8_matmul`: an exact integer product of two quantized activations, of matrices or batches of them.

    z[…, m, n] = float32(Σ_k (x[…, m, k] - x_zero_point) · (y[…, k, n] - y_zero_point)) · scale

`scale` is the product of both scales in float32. The sum is exact, whatever K; what follows it is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .linear import scaled
from .registration import operator

_broadcast: Callable[..., torch.Size] = torch.broadcast_shapes

SCHEMA = "int8_matmul(Tensor x, Tensor y, *, int x_zero_point, int y_zero_point, Tensor scale) -> Tensor"


def reference(x: Tensor, y: Tensor, *, x_zero_point: int, y_zero_point: int, scale: Tensor) -> Tensor:
    """x: u8 or s8 [..., M, K]; y: u8 or s8 [..., K, N]; leading dims broadcast. Gives f32 [..., M, N].

    scale: f32, of a shape that broadcasts to [M, N].
    """
    exact = torch.matmul(x.to(torch.int64) - x_zero_point, y.to(torch.int64) - y_zero_point)
    return scaled(exact, scale, None)


def fake(x: Tensor, y: Tensor, *, x_zero_point: int, y_zero_point: int, scale: Tensor) -> Tensor:
    """The result's shape and dtype."""
    leading = _broadcast(x.shape[:-2], y.shape[:-2])
    return x.new_empty((*leading, x.shape[-2], y.shape[-1]), dtype=torch.float32)


int8_matmul = operator(SCHEMA, reference, fake)
