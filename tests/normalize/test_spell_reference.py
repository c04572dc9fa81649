"""Arithmetic that quantizes, before and after; what only looks like it stays arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops.out_dtype import out_dtype

from lower86.normalize.spell_reference import spell_reference
from lower86.normalize.spell_scalars import spell_scalars
from tests.normalize.graphs import after, text

A = torch.ops.aten
X = torch.randn(2, 4)
Q = torch.randint(-128, 128, (2, 4), dtype=torch.int8)


def test_quantize_and_dequantize() -> None:
    def function(x: Tensor) -> Tensor:
        q = A.clamp(torch.round(x / 0.5).to(torch.int32) + 3, -100, 127).to(torch.int8)
        return (A.clamp(q, -128, 127).to(torch.float32) - 3) * 0.5

    assert after((spell_scalars, spell_reference), function, X) == text("""
        %0: i8[2, 4] = quantize_per_tensor(inputs_0, 0.5, 3, -100, 127, i8)
        %1: f32[2, 4] = dequantize_per_tensor(%0, 0.5, 3, -128, 127, i8)
        return [%1]""")


def test_a_clamp_that_changes_something_stays() -> None:
    def function(q: Tensor) -> Tensor:
        return (A.clamp(q, -7, 7).to(torch.float32) - 1) * 0.25

    assert after((spell_scalars, spell_reference), function, Q) == text("""
        %0: i8[2, 4] = clamp(inputs_0, -7, 7)
        %1: f32[2, 4] = dequantize_per_tensor(%0, 0.25, 1, -7, 7, i8)
        return [%1]""")


def test_integer_arithmetic() -> None:
    def function(q: Tensor, w: Tensor, b: Tensor) -> Tensor:
        total = out_dtype(A.linear.default, torch.int32, q.to(torch.int16) - 3, w.to(torch.int16) - 0, None)
        return out_dtype(A.div.Tensor, torch.int32, b, 0.5) + total

    w = torch.randint(-128, 128, (6, 4), dtype=torch.int8)
    assert after((spell_scalars, spell_reference), function, Q, w, torch.randn(6)) == text("""
        %0: f32[6] = div(inputs_2, 0.5)
        %1: i32[6] = _to_copy(%0, dtype=i32)
        %2: f32[2, 4] = dequantize_per_tensor(inputs_0, 1, 3, -128, 127, i8)
        %3: f32[6, 4] = dequantize_per_tensor(inputs_1, 1, 0, -128, 127, i8)
        %4: f32[2, 6] = linear(%2, %3, None)
        %5: i32[2, 6] = _to_copy(%4, dtype=i32)
        %6: i32[2, 6] = add(%1, %5)
        return [%6]""")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, q: (A.clamp(torch.round(x / 0.5).to(torch.int32) + 3, -300, 127)).to(torch.int8),
        lambda x, q: (A.clamp(torch.round(x / -0.5).to(torch.int32) + 3, -128, 127)).to(torch.int8),
        lambda x, q: (A.clamp(torch.floor(x / 0.5).to(torch.int32) + 3, -128, 127)).to(torch.int8),
        lambda x, q: (A.clamp(torch.round(x / 0.5).to(torch.int64) + 3, -128, 127)).to(torch.int8),
        lambda x, q: (q.to(torch.float32) - 0.5) * 0.5,
        lambda x, q: (q.to(torch.int32) - 1) * 0.5,
        lambda x, q: (x - 1) * 0.5,
    ],
    ids=["wider than bytes", "a negative scale", "floor", "64 bits", "half a zero point", "no float", "no integers"],
)
def test_what_only_looks_like_it(function: object) -> None:
    found = after((spell_scalars, spell_reference), function, X, Q)
    assert "quantize" not in found
