from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models.checks import near
from tests.normalize.graphs import graph_of

Q, K, V = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
attention = F.scaled_dot_product_attention
BOOLEAN = torch.rand(4, 6) < 0.7
ADDED = torch.randn(2, 1, 4, 6)

CASES: dict[str, Any] = {
    "plain": (lambda q, k, v: attention(q, k, v), (Q, K, V)),
    "three dims": (lambda q, k, v: attention(q, k, v), (Q[0], K[0], V[0])),
    "transposed operands": (
        lambda q, k, v: attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)),
        (Q.transpose(1, 2), K.transpose(1, 2), V.transpose(1, 2)),
    ),
    "boolean mask": (lambda q, k, v, m: attention(q, k, v, m), (Q, K, V, BOOLEAN)),
    "added mask": (lambda q, k, v, m: attention(q, k, v, m), (Q, K, V, ADDED)),
    "the usual scale": (lambda q, k, v: attention(q, k, v, None, 0.0, False, scale=8**-0.5), (Q, K, V)),
    "another scale": (lambda q, k, v: attention(q, k, v, scale=0.25), (Q, K, V)),
    "into heads merged": (lambda q, k, v: attention(q, k, v).transpose(1, 2).reshape(2, 4, 24), (Q, K, V)),
}


@pytest.mark.parametrize("name", CASES)
def test_decomposed_attention_is_whole_again(name: str) -> None:
    function, inputs = CASES[name]
    texts = []
    for decompose in (False, True):
        module = graph_of(function, *inputs, decompose=decompose)
        normalize(module)
        texts.append(text_of(module))
        module.recompile()
        near(module(*inputs), function(*inputs))
    assert texts[0] == texts[1]
    assert texts[0].count("scaled_dot_product_attention(") == 1
    assert "softmax" not in texts[0]


def test_rows_without_keys_are_zero() -> None:
    mask = BOOLEAN.clone()
    mask[1] = False
    module = graph_of(lambda q, k, v, m: attention(q, k, v, m), Q, K, V, mask, decompose=True)
    normalize(module)
    module.recompile()
    result = module(Q, K, V, mask)
    near(result, attention(Q, K, V, mask))
    assert (result[:, :, 1] == 0).all()


def test_a_causal_mask_is_recognised() -> None:
    inputs = (Q, K[:, :, :4], V[:, :, :4])
    module = graph_of(lambda q, k, v: attention(q, k, v, is_causal=True), *inputs, decompose=True)
    normalize(module)
    module.recompile()
    near(module(*inputs), attention(*inputs, is_causal=True))
    assert "scaled_dot_product_attention(inputs_0, inputs_1, inputs_2, is_causal=True)" in text_of(module)


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Without the rule for rows that are all masked: they are NaN."""
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(8) + mask, -1) @ v


def test_attention_written_out_stays_as_it_is() -> None:
    mask = torch.zeros(4, 6)
    mask[2] = -math.inf
    module = graph_of(written_out, Q, K, V, mask)
    normalize(module)
    module.recompile()
    near(module(Q, K, V, mask), written_out(Q, K, V, mask))
    assert "scaled_dot_product_attention" not in text_of(module)
    assert module(Q, K, V, mask).isnan().any()


def test_the_factor_of_the_queries_is_part_of_the_scale() -> None:
    def function(x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention((x * 0.5).view(2, 4, 3, 8).transpose(1, 2), k, v, scale=0.5)

    inputs = torch.randn(2, 4, 24), K, V
    module = graph_of(function, *inputs)
    normalize(module)
    module.recompile()
    near(module(*inputs), function(*inputs))
    assert "inputs_1, inputs_2, scale=0.25)" in text_of(module)
    assert "mul" not in text_of(module)
