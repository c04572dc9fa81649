"""Masks that are constants: those that leave everything out of account go, causal ones are said to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models.checks import near
from tests.normalize.graphs import graph_of

Q = torch.randn(2, 3, 4, 8)


def causal(rows: int, columns: int) -> Tensor:
    return torch.arange(rows)[:, None] >= torch.arange(columns)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask)


CASES: dict[str, tuple[Tensor, int, str]] = {
    "all True": (torch.ones(2, 1, 4, 4, dtype=torch.bool), 4, "(inputs_0, inputs_1, inputs_2)"),
    "all zero": (torch.zeros(4, 4), 4, "(inputs_0, inputs_1, inputs_2)"),
    "causal": (causal(4, 4), 4, "(inputs_0, inputs_1, inputs_2, is_causal=True)"),
    "causal, of all heads": (causal(4, 4)[None, None], 4, "(inputs_0, inputs_1, inputs_2, is_causal=True)"),
    "causal, of more keys": (causal(4, 6), 6, "(inputs_0, inputs_1, inputs_2, is_causal=True)"),
    "causal, of numbers": (causal(4, 4).float(), 4, "(inputs_0, inputs_1, inputs_2, f32[4, 4])"),
    "causal but one": (causal(4, 4) & (torch.rand(2, 1, 4, 4) < 0.9), 4, "bool[2, 1, 4, 4])"),
    "a row for all queries": (causal(4, 4)[3:], 4, "(inputs_0, inputs_1, inputs_2)"),
    "all but one key": (causal(4, 4)[2:3], 4, "(inputs_0, inputs_1, inputs_2, bool[1, 4])"),
}


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str) -> None:
    mask, keys, wanted = CASES[name]
    inputs = (Q, torch.randn(2, 3, keys, 8), torch.randn(2, 3, keys, 8))
    module = graph_of(attention, *inputs, constants=(mask,))
    expected = module(*inputs)
    normalize(module)
    module.recompile()
    near(module(*inputs), expected)
    assert wanted in text_of(module)


def test_a_mask_of_ones_like_an_input() -> None:
    def function(q: Tensor, ids: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, q, q, torch.ones_like(ids).bool()[:, None, None, :] & causal(4, 4))

    inputs = Q, torch.zeros(2, 4, dtype=torch.int64)
    module = graph_of(function, *inputs)
    normalize(module)
    module.recompile()
    near(module(*inputs), function(*inputs))
    assert "(inputs_0, inputs_0, inputs_0, is_causal=True)" in text_of(module)


@pytest.mark.parametrize("mask", [torch.ones(3, 2, 4, 4, dtype=torch.bool), causal(4, 4).expand(3, 2, 4, 4)])
@pytest.mark.parametrize("q", [torch.randn(1, 2, 4, 8), torch.randn(2, 4, 8)], ids=["batches", "dims"])
def test_a_mask_of_more_than_the_scores_stays(q: Tensor, mask: Tensor) -> None:
    """Export takes it, PyTorch's kernel does not: without its mask, the attention would be another one."""
    module = graph_of(attention, q, q, q, constants=(mask,))
    normalize(module)
    assert "bool[3, 2, 4, 4])" in text_of(module)


SELECTIONS: dict[str, tuple[Any, bool]] = {
    "all True": (lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, 2.0), True),
    "not all": (lambda x: torch.where(torch.tensor([True, False, True]), x, 2.0), False),
    "of one that is broadcast": (lambda x: torch.where(torch.ones(4, 3, dtype=torch.bool), x, 2.0), False),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(name: str) -> None:
    function, goes = SELECTIONS[name]
    module = graph_of(lambda x: function(x) * 2, torch.randn(3))
    x = torch.randn(3)
    expected = module(x)
    normalize(module)
    module.recompile()
    near(module(x), expected)
    assert ("where" not in text_of(module)) == goes
