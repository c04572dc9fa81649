"""Linears whose results are seen in other rows, and what that gives quantized ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lower86
from lower86 import X86Quantizer
from lower86.normalize.lift_reshapes import lift_reshapes
from lower86.normalize.spell_movement import spell_movement
from tests.models.checks import agree, lower, near
from tests.models.quantized import quantize
from tests.normalize.graphs import after, text

PASSES = (spell_movement, lift_reshapes)
X, W, B = torch.randn(6, 4), torch.randn(5, 4), torch.randn(5)


def test_a_reshape_of_rows_moves_before_the_linear() -> None:
    got = after(PASSES, lambda x, w, b: nn.functional.linear(x, w, b).view(2, -1, 5), X, W, B)
    assert got == text("""\
        %0: f32[2, 3, 4] = reshape(inputs_0, [2, -1, 4])
        %1: f32[2, 3, 5] = linear(%0, inputs_1, inputs_2)
        return [%1]""")


def test_a_reshape_of_columns_stays() -> None:
    got = after(PASSES, lambda x, w: nn.functional.linear(x, w).view(6, 5, 1), X, W)
    assert got.index("linear") < got.index("reshape")


def test_a_linear_that_somebody_else_reads_stays() -> None:
    def function(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        result = nn.functional.linear(x, w)
        return result.view(2, 3, 5), result

    got = after(PASSES, function, X, W)
    assert got.index("linear") < got.index("reshape")


def test_a_residual_is_part_of_a_quantized_product_that_was_flattened() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(16, 16) / 4), nn.Parameter(torch.randn(16))

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.addmm(self.bias, x.tanh().view(-1, 16), self.weight).view(x.shape)

    x = torch.randn(2, 5, 16)
    quantized = quantize(Block(), (x,), quantizer=X86Quantizer())
    lowered = lower(quantized, x)
    agree(quantized, lowered, x, compare=near)
    kinds = [kernel.kind for kernel in lower86.explain(lowered).kernels]
    assert kinds == ["pointwise", "contraction u8s8"]
