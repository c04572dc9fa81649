"""Distances and clipping, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lower86.debugger.measures import distance, saturation


def test_decibels() -> None:
    found = distance(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert found.sqnr == pytest.approx(10 * math.log10(25 / 0.25))
    assert (found.most, found.one, found.more) == (0.5, None, None)
    assert distance(torch.ones(3), torch.ones(3)).sqnr == math.inf
    assert distance(torch.zeros(3), torch.ones(3)).sqnr == -math.inf
    assert distance(torch.ones(0), torch.ones(0)).sqnr == math.inf


def test_what_is_not_finite() -> None:
    masked = torch.tensor([1.0, -math.inf, math.nan])
    assert distance(masked, masked.clone()).sqnr == math.inf
    assert distance(masked, torch.tensor([1.0, -1e9, math.nan])).sqnr == -math.inf


def test_steps() -> None:
    wanted, given = (torch.tensor(x, dtype=torch.uint8) for x in ([0, 5, 255, 7], [1, 5, 0, 7]))
    found = distance(wanted.float(), given.float(), (wanted, given))
    assert (found.one, found.more) == (1, 1)


@pytest.mark.parametrize(("scale", "share"), [(0.1, 0.0), (0.01, 0.25)])
def test_clipped(scale: float, share: float) -> None:
    real = torch.tensor([0.0, 0.0, 1.234, 9.99])
    integers = (real / scale).round().clamp(0, 255).to(torch.uint8)
    assert saturation(real, integers, integers * scale, 0, 255) == share


def test_all_clipped() -> None:
    integers = torch.full((4,), 255, dtype=torch.uint8)
    assert saturation(torch.full((4,), 9.0), integers, integers * 0.01, 0, 255) == 1
    assert saturation(torch.ones(0), integers[:0], torch.ones(0), 0, 255) == 0
