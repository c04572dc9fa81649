from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lower86.graph.text import text_of
from lower86.normalize import normalize
from lower86.normalize.drop_identities import drop_identities
from lower86.normalize.merge_movement import merge_movement
from lower86.normalize.spell_movement import spell_movement
from lower86.normalize.spell_products import spell_products
from tests.normalize.graphs import after, graph_of, text

PASSES = (drop_identities, spell_movement, spell_products, merge_movement)
X, W, B = torch.randn(2, 3, 8), torch.randn(5, 8), torch.randn(5)


def test_addmm_with_views_is_a_linear() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.addmm(b, x.view(6, 8), w.t()).view(2, 3, 5)

    assert after(PASSES, function, X, constants=(W, B)) == text("""
        %0: f32[2, 3, 5] = linear(inputs_0, f32[5, 8], f32[5])
        return [%0]""")


def test_mm_with_a_constant_is_a_linear() -> None:
    assert after(PASSES, torch.mm, X[0], constants=(W.t().contiguous(),)) == text("""
        %0: f32[5, 8] = permute(f32[8, 5], [1, 0])
        %1: f32[3, 5] = linear(inputs_0, %0)
        return [%1]""")


def test_mm_of_activations_is_a_matmul() -> None:
    assert after(PASSES, torch.mm, X[0], W.t().contiguous()) == text("""
        %0: f32[3, 5] = matmul(inputs_0, inputs_1)
        return [%0]""")


def test_one_matrix_for_a_whole_batch() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.bmm(x, w.t().expand(2, 8, 5)) + b

    assert after(PASSES, function, X, constants=(W, B)) == text("""
        %0: f32[2, 3, 5] = linear(inputs_0, f32[5, 8], f32[5])
        return [%0]""")


def test_a_bias_is_taken_only_where_it_is_one() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        y = F.linear(x, w)
        return y + torch.add(y, b, alpha=2), y + b

    assert after(PASSES, function, X, constants=(W, B)).count("linear(inputs_0, f32[5, 8])") == 1


def test_scaled_addmm() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.addmm(b, x[0], w.t(), alpha=2, beta=0.5)

    assert after(PASSES, function, X, constants=(W, B)) == text("""
        %0: f32[1, 3, 8] = slice(inputs_0, 0, 0, 1, 1)
        %1: f32[3, 8] = reshape(%0, [3, 8])
        %2: f32[3, 5] = linear(%1, f32[5, 8])
        %3: f32[3, 5] = mul(%2, 2)
        %4: f32[5] = mul(f32[5], 0.5)
        %5: f32[3, 5] = add(%3, %4)
        return [%5]""")


LINEARS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "1-D": (F.linear, (8,)),
    "2-D": (F.linear, (3, 8)),
    "3-D": (F.linear, (2, 3, 8)),
    "4-D": (F.linear, (2, 3, 4, 8)),
    "3-D, transposed": (lambda x, w, b: F.linear(x.transpose(0, 1), w, b), (2, 3, 8)),
    "4-D, transposed": (lambda x, w, b: F.linear(x.transpose(1, 2), w, b), (2, 3, 4, 8)),
    "4-D, strided, no bias": (lambda x, w, b: F.linear(x[:, :, ::2], w), (2, 3, 4, 8)),
    "expanded": (lambda x, w, b: F.linear(x.expand(4, 3, 8), w, b), (1, 3, 8)),
    "weight used twice": (lambda x, w, b: F.linear(F.linear(x, w, b), w.t()), (2, 3, 8)),
    "matmul with a constant": (lambda x, w, b: x @ w.t() + b, (2, 3, 8)),
    "matmul with a transposed constant": (lambda x, w, b: x.transpose(0, 1) @ w.t(), (2, 3, 8)),
    "matmul 3-D": (lambda x, w, b: x @ x.transpose(1, 2), (2, 3, 8)),
    "matmul 4-D": (lambda x, w, b: x @ x.transpose(2, 3), (2, 3, 4, 8)),
    "matmul, broadcast": (lambda x, w, b: x @ x[:1, 0].transpose(1, 2), (2, 3, 4, 8)),
    "matmul by a matrix": (lambda x, w, b: x @ x[0, 0].t(), (2, 3, 4, 8)),
    "batch of one": (lambda x, w, b: F.linear(x.transpose(1, 2), w, b), (1, 3, 4, 8)),
}


@pytest.mark.parametrize("name", LINEARS)
def test_both_spellings_are_one(name: str) -> None:
    function, shape = LINEARS[name]
    x = torch.randn(shape)
    texts = []
    for decompose in (False, True):
        module = graph_of(function, x, constants=(W, B), decompose=decompose)
        normalize(module)
        texts.append(text_of(module))
    assert texts[0] == texts[1]
    assert "mm(" not in texts[0]


def test_sizes_that_only_happen_to_be_equal_are_not() -> None:
    """In the example batch and fixed dim are both 2; then [batch, 2] and [2, batch] are not the same."""

    def function(x: Tensor, w: Tensor) -> Tensor:
        return F.linear(x.reshape(-1, 8), w).reshape(2, x.shape[0], 5)

    x = torch.randn(2, 2, 8)
    module = graph_of(function, x, constants=(W,), dynamic_shapes=(({0: torch.export.Dim("batch")},),))
    normalize(module)
    module.recompile()
    for rows in (2, 6):
        again = torch.randn(rows, 2, 8)
        torch.testing.assert_close(module(again), function(again, W))
