"""Extremes of whole tensors by way of their rows, where those are long and many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.graph.text import text_of

A = torch.ops.aten


class Extremes(nn.Module):
    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        dims = list(range(x.dim()))
        return x.amax(dims, self.keep), x.amin(dims, self.keep) if self.keep else x.min()


def lowered(x: Tensor, keep: bool, **dynamic: Any) -> tuple[str, Tensor]:
    """The graph, and the results of a call, which are PyTorch's to the bit."""
    model = Extremes(keep)
    module = lower86.lower_pt2e_quantized_to_x86(model, (x,), on_fallback="ignore", **dynamic)
    for own, expected in zip(module(x), model(x), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=0, equal_nan=True)
    return text_of(module), module(x)[0]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("shape", [(40, 300), (4, 32, 384)], ids=str)
def test_long_rows(shape: tuple[int, ...], keep: bool) -> None:
    x = torch.randn(shape)
    text, _ = lowered(x, keep)
    rows, whole = ([*shape[:-1], 1], [1] * len(shape)) if keep else ([*shape[:-1]], [])
    assert f"f32{rows} = amax(x, [-1], {keep})" in text
    assert f"f32{whole} = amin(" in text
    x[1, 7] = float("nan")
    _, most = lowered(x, keep)
    assert most.isnan().all()


def test_sizes_known_at_the_call() -> None:
    text, _ = lowered(torch.randn(3, 5, 384), False, dynamic_shapes=({0: torch.export.Dim("a")},))
    assert "amax(x, [-1], False)" in text


@pytest.mark.parametrize("shape", [(9000,), (8, 2000), (4000, 3), (20, 30), (2, 3, 20, 100)], ids=str)
def test_what_stays_whole(shape: tuple[int, ...]) -> None:
    """One dim, few rows, short rows, few elements, and images, whose channels lie last."""
    text, _ = lowered(torch.randn(shape), False)
    assert "[-1]" not in text
