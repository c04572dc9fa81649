"""Linears quantized by hand, with parameters that no quantizer gives.

Scales are powers of two, weights integers and biases multiples of the product of scales: float32 computes such a model
exactly while sums stay below 2^24, in any order. What lower86 makes of it has to be the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import Tensor, nn

Q = torch.ops.quantized_decomposed


@dataclass(frozen=True)
class Scale:
    """Parameters of a per-tensor quantization."""

    scale: float = 2.0**-4
    zero_point: int = 7
    low: int = 0
    high: int = 255
    dtype: torch.dtype = torch.uint8

    @property
    def all(self) -> tuple[float, int, int, int, torch.dtype]:
        return self.scale, self.zero_point, self.low, self.high, self.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """x through quantize and dequantize."""
        q = Q.quantize_per_tensor(x, self.scale, self.zero_point, self.low, self.high, self.dtype)
        return Q.dequantize_per_tensor(q, self.scale, self.zero_point, self.low, self.high, self.dtype)


U8 = Scale()
S8 = Scale(2.0**-4, -9, -128, 127, torch.int8)


class Linear(nn.Module):
    """Dequantize, linear: s8 weights a row by default; `axis` 1: scales a column; None: one scale.

    `zero_point` is the weight's: a number, or a list of one for each scale.
    """

    def __init__(
        self,
        k: int = 20,
        n: int = 12,
        *,
        x: Scale = U8,
        dtype: torch.dtype = torch.int8,
        axis: int | None = 0,
        zero_point: int | list[int] = 0,
        bias: bool = True,
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        info = torch.iinfo(dtype)
        self.low, self.high, self.dtype, self.axis, self.x = info.min, info.max, dtype, axis, x
        integers = torch.randint(self.low, self.high + 1, (n, k), dtype=torch.int32) if weight is None else weight
        self.register_buffer("weight", integers.to(dtype))
        scales = 2.0 ** -torch.arange(6, 6 + (n, k)[axis or 0]).remainder(4).add(6).float()
        zeros = torch.tensor(zero_point).expand(scales.shape).contiguous()
        self.register_buffer("scales", scales if axis is not None else torch.tensor(2.0**-7))
        self.register_buffer("zeros", zeros if axis is not None else torch.tensor(zero_point))
        self.register_buffer("bias", torch.randint(-999, 999, (n,)) * 2.0**-10 if bias else None)
        self.one = (2.0**-7, zero_point) if axis is None else None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.x(x), self.dequantized(), self.bias)

    def dequantized(self) -> Tensor:
        """The weight as floats."""
        if self.one is not None:
            return Q.dequantize_per_tensor(self.weight, *self.one, self.low, self.high, self.dtype)
        given = (self.scales, self.zeros, self.axis, self.low, self.high, self.dtype)
        return Q.dequantize_per_channel(self.weight, *given)


def grid(*shape: int, scale: float = 2.0**-4, reach: int = 160) -> Tensor:
    """Random multiples of half of `scale`: ties for the rounding, and values that the quantization clamps."""
    return torch.randint(-2 * reach, 2 * reach + 1, shape) * (scale / 2)
