"""Linears of one input are one contraction, where nothing is lost by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lower86
from lower86.ops.linear import int8_linear
from tests.models.quantized import quantize


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(32, 32), nn.Linear(32, 32, bias=False)
        self.v = nn.Linear(32, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(32, 64), nn.Linear(32, 64)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.gate(x)) * self.up(x)


def products(lowered: lower86.LoweredModule) -> int:
    return sum(node.target is int8_linear for node in lowered.graph.nodes)


def test_queries_keys_and_values_are_one_contraction() -> None:
    x = torch.randn(2, 7, 32)
    quantized = quantize(Attention(), (x,))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert products(lowered) == 1
    assert [r.node for r in lower86.explain(lowered).operators] == ["linear", "linear_1", "linear_2"]
    assert "None" not in str(lower86.explain(lowered))
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), quantized(x), rtol=1e-4, atol=1e-4)


def test_linears_with_an_epilogue_of_their_own_stay_apart() -> None:
    x = torch.randn(3, 32)
    quantized = quantize(Gate(), (x,))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (x,), on_fallback="raise")
    assert products(lowered) == 2
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), quantized(x), rtol=1e-4, atol=1e-4)
