"""`lower86::quantize`: quantization whose parameters are tensors, known only at run time; `quantize_static`: numbers.

q = clamp(round(x · inverse_scale) + zero_point, low, high)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .registration import operator

SCHEMA = "quantize(Tensor x, Tensor inverse_scale, Tensor zero_point, int low, int high, ScalarType dtype) -> Tensor"

STATIC_SCHEMA = (
    "quantize_static(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype) "
    "-> Tensor"
)


def reference(x: Tensor, inverse_scale: Tensor, zero_point: Tensor, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """x: f32; inverse_scale, zero_point: f32, of shapes that broadcast to x's. Returns integers of x's shape.

    Rounds half to even; a NaN becomes the zero point.
    """
    steps = torch.nan_to_num(torch.round(x * inverse_scale), nan=0.0, posinf=float("inf"), neginf=-float("inf"))
    return torch.clamp(steps + zero_point, low, high).to(dtype)


def static_reference(x: Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """`quantize_per_tensor`, which has to be registered first; and it leaves open what a NaN becomes."""
    return reference(x.to(torch.float32), torch.tensor(1.0 / scale), torch.tensor(float(zero_point)), low, high, dtype)


def fake(x: Tensor, inverse_scale: Tensor, zero_point: Tensor, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """The result's shape and dtype."""
    return torch.empty_like(x, dtype=dtype)


def fake_static(x: Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """The result's shape and dtype."""
    return torch.empty_like(x, dtype=dtype)


quantize = operator(SCHEMA, reference, fake)
quantize_static = operator(STATIC_SCHEMA, static_reference, fake_static)
