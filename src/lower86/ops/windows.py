"""`lower86::windows`: the elements of every window of a pool, as dims of their own.

y[b, c, o…, t…] = x[b, c, i…]     i = o · stride + t · dilation - low; `fill` where that is outside x
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .registration import operator

SCHEMA = (
    "windows(Tensor x, *, int[] kernel, int[] stride, int[] low, int[] high, int[] dilation, Scalar fill) -> Tensor"
)


def reference(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int],
    fill: float,
) -> Tensor:
    """x: any dtype, [B, C, I…]; `high` of the elements after x are read. Gives [B, C, O…, T…]."""
    pads = [pad for pair in zip(reversed(low), reversed(high), strict=True) for pad in pair]
    first = x.dim() - len(kernel)
    y = torch.nn.functional.pad(x, pads, value=fill)
    for dim, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=first):
        y = y.unfold(dim, (size - 1) * gap + 1, step)[..., ::gap]
    return y.clone(memory_format=torch.contiguous_format)


def fake(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int],
    fill: float,
) -> Tensor:
    """The result's shape and dtype."""
    first = x.dim() - len(kernel)
    counts = [
        (size + before + after - (taps - 1) * gap - 1) // step + 1
        for size, taps, step, before, after, gap in zip(
            x.shape[first:], kernel, stride, low, high, dilation, strict=True
        )
    ]
    return x.new_empty((*x.shape[:first], *counts, *kernel))


windows = operator(SCHEMA, reference, fake)
