"""Ranges against what they are by definition: quantiles, and the least squared error of all ends of a grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lower86.quantization.ranges import estimate
from tests.quantization.test_watch import watching


def error(values: Tensor, low: float, high: float, levels: int) -> float:
    """The squared error of rounding to so many steps between two ends, with 0 among them."""
    scale = (high - low) / levels
    zero = round(-low / scale)
    rounded = (torch.clamp(torch.round(values / scale) + zero, 0, levels) - zero) * scale
    return float((rounded - values).double().square().sum())


def test_least_and_largest_with_zero_between() -> None:
    for low, high in ((-2.0, 3.0), (1.0, 3.0), (-3.0, -1.0), (0.0, 0.0)):
        seen = watching(torch.linspace(low, high, 16).reshape(2, 8))
        assert estimate(seen, "minmax", 99, 255, False) == (min(low, 0.0), max(high, 0.0))


@pytest.mark.parametrize("share", [60.0, 90.0, 99.0, 100.0])
def test_percentiles_are_quantiles(share: float) -> None:
    values = torch.randn(4000, 8)
    values[0, 0] = 500
    seen = watching(values)
    got = estimate(seen, "percentile", share, 255, False)
    wanted = torch.quantile(values.flatten(), torch.tensor([1 - share / 100, share / 100]))
    width = 2 * 512 / 16384
    assert got[0] == pytest.approx(min(float(wanted[0]), 0.0), abs=2 * width)
    assert got[1] == pytest.approx(max(float(wanted[1]), 0.0), abs=2 * width)
    assert seen.low <= got[0] <= 0 <= got[1] <= seen.high


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("outlier", [0.0, 20.0, 500.0])
def test_no_ends_of_a_grid_have_less_error(symmetric: bool, outlier: float) -> None:
    values = torch.randn(2000, 8)
    values[:, 0] += 1
    values[0, 0] = outlier or values[0, 0]
    levels = 254 if symmetric else 255
    seen = watching(values)
    low, high = estimate(seen, "histogram", 99, levels, symmetric)
    found = error(values, low, high, levels)
    assert seen.low <= low or symmetric
    grid = torch.linspace(1 / 64, 1, 64).tolist()
    if symmetric:
        largest = max(-seen.low, seen.high)
        others = [(-largest * part, largest * part) for part in grid]
    else:
        others = (
            [(min(seen.low, 0), seen.high)]
            + [(low, seen.high * part) for part in grid]
            + [(seen.low * part, high) for part in grid]
        )
    least = min(error(values, *ends, levels) for ends in others)
    assert found <= 1.02 * least


def test_nothing_but_zeros_and_constants() -> None:
    for value in (0.0, 0.7, -3e38, 1e-35):
        seen = watching(torch.full((2, 8), value))
        for kind in ("minmax", "histogram", "percentile"):
            low, high = estimate(seen, kind, 99.9, 255, False)  # type: ignore[arg-type]  # a loop over all estimators
            assert min(value, 0.0) * (1 + 1e-6) - 1e-30 <= low <= 0 <= high <= max(value, 0.0) * (1 + 1e-6) + 1e-30
            assert math.isfinite(high - low)
