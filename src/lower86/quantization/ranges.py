"""The range of real values that an activation's integers stand for, from what calibration saw of it."""

from __future__ import annotations

import torch
from torch import Tensor

from .recipe import Estimator
from .watch import Watch

_CANDIDATES = 64
_ROUNDS = 3


def estimate(seen: Watch, estimator: Estimator, percentile: float, levels: int, symmetric: bool) -> tuple[float, float]:
    """Low (at most 0) and high (at least 0) end; `levels` is the number of steps between them."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if estimator == "percentile":
        return _percentile(seen, percentile / 100, low, high)
    if estimator == "histogram" and low < high:
        return _least_error(seen, low, high, levels, symmetric)
    return low, high


def _percentile(seen: Watch, share: float, low: float, high: float) -> tuple[float, float]:
    middles, counts = seen.spread
    below = counts.cumsum(0) / counts.sum()
    lower, upper = (middles[int((below < part).sum().clamp(max=len(middles) - 1))] for part in (1 - share, share))
    return max(low, min(float(lower), 0.0)), min(high, max(float(upper), 0.0))


def _least_error(seen: Watch, low: float, high: float, levels: int, symmetric: bool) -> tuple[float, float]:
    """The ends of least squared error, searched in turns: an end is moved while the other one stays."""
    middles, counts = seen.spread
    parts = torch.linspace(1 / _CANDIDATES, 1, _CANDIDATES, dtype=torch.float64)
    if symmetric:
        ends = parts * max(-low, high)
        best = float(ends[_errors(middles, counts, -ends, ends, levels).argmin()])
        return -best, best
    for _ in range(_ROUNDS):
        before = low, high
        ends = high * parts
        if high > 0:
            high = float(ends[_errors(middles, counts, torch.full_like(ends, low), ends, levels).argmin()])
        ends = low * parts
        if low < 0:
            low = float(ends[_errors(middles, counts, ends, torch.full_like(ends, high), levels).argmin()])
        if (low, high) == before:
            break
    return low, high


def _errors(middles: Tensor, counts: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """The squared error of each pair of ends, over all that was counted."""
    scale = ((high - low) / levels).clamp(min=1e-30)[:, None]
    zero = torch.round(-low[:, None] / scale)
    rounded = torch.clamp(torch.round(middles / scale) + zero, 0, levels) - zero
    return torch.as_tensor(((rounded * scale - middles).square() * counts).sum(1))
