"""`lower86::int8_conv`: an exact integer convolution of a quantized activation with a quantized weight.

    y[b, n, o…] = float32(Σ_{c, t…} (x[b, c, i…] - x_zero_point) · weight[n, c, t…]) · scale[n] + bias[n]
    i = (o · stride + t · dilation - low) / spread     where that is a whole number and inside x; elsewhere nothing

`low` and `high` are how many zero points stand before and after x in each spatial dim. `spread` puts spread - 1 of them
between x's elements: a transposed convolution is one of spread x with a flipped weight, and low may be negative then.
`transposed` only tells that the model said it so: reports count multiplications as it does.

`scale[n]` is the activation's scale times the weight's, in float32. The sum is exact, what follows it is rounded
once (fma).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .linear import scaled
from .registration import operator

SCHEMA = (
    "int8_conv(Tensor x, Tensor weight, Tensor? bias=None, *, int x_zero_point, Tensor scale, int[] stride, "
    "int[] low, int[] high, int[] dilation, int[] spread, int groups, bool transposed=False) -> Tensor"
)

_CONVOLUTIONS = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    x_zero_point: int,
    scale: Tensor,
    stride: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int],
    spread: Sequence[int],
    groups: int,
    transposed: bool = False,
) -> Tensor:
    """x: u8 or s8 [B, C, I…]; weight: s8 [N, C/groups, T…]; bias, scale: f32 [N]. Gives f32 [B, N, O…]."""
    centred = x.to(torch.float64) - x_zero_point  # sums of integers this small are exact in float64
    convolve = _CONVOLUTIONS[len(stride) - 1]
    exact = convolve(_spread(centred, low, high, spread), weight.to(torch.float64), None, stride, 0, dilation, groups)
    shape = [-1, *[1] * len(stride)]
    return scaled(exact, scale.reshape(shape), None if bias is None else bias.reshape(shape)).contiguous()


def _spread(x: Tensor, low: Sequence[int], high: Sequence[int], spread: Sequence[int]) -> Tensor:
    """x with zeros between its elements and around them."""
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], spread, strict=True)]
    spaced = x.new_zeros((*x.shape[:2], *sizes))
    between = (slice(None), slice(None), *(slice(None, None, step) for step in spread))
    spaced[between] = x
    pads = [pad for pair in zip(reversed(low), reversed(high), strict=True) for pad in pair]
    return torch.nn.functional.pad(spaced, pads)


def fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    x_zero_point: int,
    scale: Tensor,
    stride: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int],
    spread: Sequence[int],
    groups: int,
    transposed: bool = False,
) -> Tensor:
    """The result's shape and dtype."""
    sizes = [
        ((size - 1) * gap + 1 + before + after - step * (taps - 1) - 1) // stride_ + 1
        for size, gap, before, after, step, taps, stride_ in zip(
            x.shape[2:], spread, low, high, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    return x.new_empty((x.shape[0], weight.shape[0], *sizes), dtype=torch.float32)


int8_conv = operator(SCHEMA, reference, fake)
