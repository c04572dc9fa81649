"""Masks of windows, for an attention that knows batches only, in sizes that vary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models.checks import near
from tests.normalize.graphs import graph_of

BATCH, WINDOWS, MORE = Dim("batch", min=2, max=9), Dim("windows", min=2, max=9), Dim("more", min=2, max=9)
CASES: dict[str, tuple[dict[int, Any], dict[int, Any], bool]] = {
    "batches": ({0: BATCH}, {}, True),
    "windows": ({1: WINDOWS}, {0: WINDOWS}, True),
    "both": ({0: BATCH, 1: WINDOWS}, {0: WINDOWS}, True),
    "what stands before and behind windows": ({0: BATCH, 2: MORE}, {}, False),
}


def windowed(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """q, k, v: [batch, windows, more, heads, n, d]; a mask for each window."""
    shape = q.shape[:4]
    q, k, v = (x.reshape(-1, *x.shape[3:]) for x in (q, k, v))
    scores = (q @ k.mT).reshape(*shape, *keep.shape[1:]).masked_fill(~keep[None, :, None, None], -1e30)
    return torch.softmax(scores.reshape(-1, 3, *keep.shape[1:]), -1) @ v


def inputs_of(batch: int, windows: int, more: int) -> tuple[Tensor, ...]:
    q, k, v = (torch.randn(batch, windows, more, 3, *size) for size in ((4, 8), (6, 8), (6, 5)))
    return q, k, v, torch.rand(windows, 4, 6) < 0.5


@pytest.mark.parametrize("name", CASES)
def test_windows_in_sizes_that_vary(name: str) -> None:
    operand, mask, is_one = CASES[name]
    shapes = ((operand, operand, operand, mask),)
    module = graph_of(windowed, *inputs_of(2, 3, 4), dynamic_shapes=shapes)
    calls = [inputs_of(2, 3, 4), inputs_of(*(5 if dim in operand else 2 + dim for dim in range(3)))]
    expected = [module(*inputs) for inputs in calls]
    normalize(module)
    module.recompile()
    for inputs, wanted in zip(calls, expected, strict=True):
        near(module(*inputs), wanted)
    assert ("scaled_dot_product_attention" in text_of(module)) == is_one
