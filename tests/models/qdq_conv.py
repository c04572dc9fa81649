"""Convolutions quantized by hand, exact in float32 like the linears of `qdq.py`: few terms, scales powers of two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.models.qdq import U8, Q, Scale

CONVOLUTIONS: dict[tuple[int, bool], Any] = {
    (1, False): nn.functional.conv1d, (2, False): nn.functional.conv2d, (3, False): nn.functional.conv3d,
    (1, True): nn.functional.conv_transpose1d, (2, True): nn.functional.conv_transpose2d,
    (3, True): nn.functional.conv_transpose3d,
}  # fmt: skip
Kinds = list[dict[str, Any]]


class Conv(nn.Module):
    """Dequantize, convolve from `c` to `n` channels over as many dims as `taps` has; `options` are PyTorch's.

    Weights have a scale a channel (axis 0, of transposed ones 1); with another `axis`, along that; None: one scale.
    `zero_point` is the weight's: a number, or a list of one for each scale. `pad`: F.pad of what is dequantized.
    """

    weight: Tensor
    bias: Tensor
    scales: Tensor

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
        result: Tensor = self.function(x, self.dequantized(), self.bias, **self.options)
        return result

    def dequantized(self) -> Tensor:
        """The weight as floats."""
        limits = (self.low, self.high, self.dtype)
        if self.one is not None:
            result: Tensor = Q.dequantize_per_tensor(self.weight, *self.one, *limits)
        else:
            result = Q.dequantize_per_channel(self.weight, self.scales, self.zeros, self.axis, *limits)
        return result


class Side(nn.Module):
    """Convolutions of all kinds side by side on one input."""

    def __init__(self, kinds: list[dict[str, Any]], **common: Any) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Conv(**{**common, **kind}) for kind in kinds)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [convolution(x) for convolution in self.convolutions]


PLAIN: Kinds = [
    {}, {"stride": 2}, {"stride": 3, "padding": 2}, {"padding": 2, "dilation": 2}, {"padding": "same", "dilation": 2},
    {"padding": "valid"}, {"groups": 2, "padding": 1, "n": 6}, {"groups": 4, "padding": 1}, {"groups": 4, "n": 8},
    {"n": 1},
]  # fmt: skip
TRANSPOSED: Kinds = [
    {}, {"stride": 2}, {"stride": 3, "output_padding": 2}, {"padding": 1}, {"stride": 2, "dilation": 2, "padding": 2},
    {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "stride": 2}, {"groups": 4, "n": 8, "stride": 3},
    {"groups": 4, "stride": 2, "padding": 1}, {"dilation": 2, "padding": 3},
]  # fmt: skip
GEOMETRIES: dict[str, tuple[int, Kinds]] = {
    "1-d": (1, [
        *PLAIN[::2], {"taps": (4,), "padding": "same"}, {"taps": (1,), "stride": 2}, {"pad": (2, 1), "padding": 1},
    ]),
    "2-d": (2, PLAIN),
    "2-d, uneven": (2, [
        {"stride": (2, 1), "padding": (0, 2)}, {"dilation": (1, 3), "padding": (2, 3)}, {"taps": (5, 1)},
        {"taps": (2, 4), "padding": "same"}, {"taps": (4, 3), "padding": "same", "dilation": (1, 2)}, {"taps": (1, 1)},
        {"taps": (1, 1), "stride": 2, "groups": 2}, {"pad": (1, 2, 0, 3)}, {"pad": (1, 0), "padding": 1, "groups": 4},
    ]),
    "3-d": (3, [
        {"padding": 1}, {"taps": (2, 1, 3), "stride": (1, 2, 1), "padding": (1, 0, 1)}, {"taps": (1, 1, 1)},
        {"taps": (2, 3, 2), "padding": "same"}, {"pad": (0, 1, 1, 0, 2, 0), "groups": 4}, {"groups": 2, "dilation": 2},
    ]),
    "1-d, transposed": (1, [
        *TRANSPOSED[::2], {"taps": (2,), "stride": 3}, {"taps": (1,), "stride": 2},
        {"taps": (4,), "stride": 2, "padding": 3},
    ]),
    "2-d, transposed": (2, [
        *TRANSPOSED[:-1], {"taps": (2, 3), "stride": (3, 1), "padding": (0, 1), "output_padding": (2, 0)},
        {"taps": (2, 2), "stride": 3, "padding": 1}, {"taps": (1, 1), "stride": (2, 3)},
        {"pad": (1, 0, 0, 2), "stride": 2},
    ]),
    "3-d, transposed": (3, [
        {"taps": (2, 1, 2), "stride": (1, 3, 2), "output_padding": (0, 2, 1)}, {"groups": 2, "padding": 1, "stride": 2},
    ]),
}  # fmt: skip
"""Over how many dims, and what is not 4 channels to 4 by taps of 3; all of some are transposed."""
SIZES = {1: (11,), 2: (7, 9), 3: (5, 6, 5)}
