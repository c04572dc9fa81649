"""How far one tensor is from another: signal to noise, the largest difference, steps of quantization, clipping."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..report.comparison import Distance


def distance(reference: Tensor, value: Tensor, integers: tuple[Tensor, Tensor] | None = None) -> Distance:
    """The distance of `value` from `reference`, tensors of one shape; `integers` are both as they are quantized.

    Infinities and NaNs count as equal where both have the same; where not, nothing is near: -inf dB.
    """
    wanted, given = (tensor.detach().double().reshape(-1) for tensor in (reference, value))
    one = more = None
    if integers is not None:
        apart = (integers[0].to(torch.int64) - integers[1].to(torch.int64)).abs()
        one, more = int((apart == 1).sum()), int((apart > 1).sum())
    finite = wanted.isfinite() & given.isfinite()
    alike = (wanted == given) | (wanted.isnan() & given.isnan())
    if not bool((finite | alike).all()):
        return Distance(-math.inf, math.inf, one, more)
    wanted, given = wanted[finite], given[finite]
    if not wanted.numel():
        return Distance(math.inf, 0.0, one, more)
    difference = (wanted - given).abs()
    noise, signal = float((difference**2).sum()), float((wanted**2).sum())
    if noise == 0:
        return Distance(math.inf, 0.0, one, more)
    sqnr = 10 * math.log10(signal / noise) if signal else -math.inf
    return Distance(sqnr, float(difference.max()), one, more)


def saturation(real: Tensor, integers: Tensor, dequantized: Tensor, low: int, high: int) -> float:
    """The share of the values that stand at a limit of the quantized type because they lie beyond it.

    A value that the limit says exactly, as a ReLU's zero, is none of them: those at the limits count that are further
    from what was quantized than any value between the limits is, and further than half a step.
    """
    if not integers.numel():
        return 0.0
    error = (real.double() - dequantized.double()).abs()
    at_limit = (integers == low) | (integers == high)
    inside = error[~at_limit]
    # Neighbouring integers are a step apart: the least distance of two different values is that of one step at least.
    rounding = float(inside.max()) if inside.numel() else 0.0
    return float((at_limit & (error > 1.001 * max(rounding, _half_step(integers, dequantized)))).double().mean())


def _half_step(integers: Tensor, dequantized: Tensor) -> float:
    """Half of what one integer more is worth, the most of any channel; 0 where all integers are alike."""
    low, high = integers.argmin(), integers.argmax()
    whole, real = integers.reshape(-1), dequantized.reshape(-1)
    steps = int(whole[high]) - int(whole[low])
    return float(real[high] - real[low]) / steps / 2 if steps else 0.0
