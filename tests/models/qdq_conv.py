"""Convolutions quantized by hand, exact in float32 like the linears of `qdq.py`: few terms, scales powers of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.models.qdq import U8, Q, Scale

CONVOLUTIONS = {
    (1, False): nn.functional.conv1d, (2, False): nn.functional.conv2d, (3, False): nn.functional.conv3d,
    (1, True): nn.functional.conv_transpose1d, (2, True): nn.functional.conv_transpose2d,
    (3, True): nn.functional.conv_transpose3d,
}  # fmt: skip


class Conv(nn.Module):
    """Dequantize, convolve from `c` to `n` channels over as many dims as `taps` has; `options` are PyTorch's.

    Weights have a scale a channel (axis 0, of transposed ones 1); with another `axis`, along that; None: one scale.
    `zero_point` is the weight's: a number, or a list of one for each scale. `pad`: F.pad of what is dequantized.
    """

    def __init__(
        self,
        c: int = 3,
        n: int = 6,
        taps: tuple[int, ...] = (3, 3),
        *,
        x: Scale = U8,
        dtype: torch.dtype = torch.int8,
        axis: int | None = -1,
        zero_point: int | list[int] = 0,
        bias: bool = True,
        transposed: bool = False,
        weight: int | None = None,
        pad: tuple[int, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__()
        info, groups = torch.iinfo(dtype), options.get("groups", 1)
        self.low, self.high, self.dtype, self.x, self.pad, self.options = info.min, info.max, dtype, x, pad, options
        self.function = CONVOLUTIONS[len(taps), transposed]
        self.axis = int(transposed) if axis == -1 else axis
        shape = (c, n // groups, *taps) if transposed else (n, c // groups, *taps)
        integers = torch.randint(self.low, self.high + 1, shape, dtype=torch.int32)
        self.register_buffer("weight", (integers if weight is None else torch.full(shape, weight)).to(dtype))
        self.register_buffer("bias", torch.randint(-999, 999, (n,)) * 2.0**-10 if bias else None)
        self.one = (2.0**-7, zero_point) if self.axis is None else None
        scales = 2.0 ** -(torch.arange(shape[self.axis or 0]) % 4 + 6).float()
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.tensor(zero_point).expand(scales.shape).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        x = self.x(x)
        if self.pad:
            x = nn.functional.pad(x, self.pad)
        return self.function(x, self.dequantized(), self.bias, **self.options)

    def dequantized(self) -> Tensor:
        """The weight as floats."""
        if self.one is not None:
            return Q.dequantize_per_tensor(self.weight, *self.one, self.low, self.high, self.dtype)
        given = (self.scales, self.zeros, self.axis, self.low, self.high, self.dtype)
        return Q.dequantize_per_channel(self.weight, *given)


class Side(nn.Module):
    """Convolutions of all kinds side by side on one input."""

    def __init__(self, kinds: list[dict[str, Any]], **common: Any) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Conv(**{**common, **kind}) for kind in kinds)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [convolution(x) for convolution in self.convolutions]
