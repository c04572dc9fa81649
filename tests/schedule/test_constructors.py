"""Tensors made of indices and numbers: of fixed shapes, and of sizes that are known at the call."""

from __future__ import annotations

import pytest
import torch

from tests.schedule.operators import check, lowered
from tests.schedule.values import tensor

A = torch.ops.aten


def test_filled() -> None:
    x = torch.randn(3, 17)
    for value in (2.5, float("inf"), float("nan"), -0.0):
        check(A.full_like.default, x, value)
    for dtype in (torch.float32, torch.int64, torch.uint8, torch.bool):
        check(A.new_full.default, x, [2, 3], 1, dtype=dtype)
        check(A.new_ones.default, x, [2, 0], dtype=dtype)
        check(A.zeros_like.default, x, dtype=dtype)
    check(A.fill.Tensor, x, torch.tensor(7))


@pytest.mark.parametrize("diagonal", [-9, -2, -1, 0, 1, 3, 9])
def test_triangles(diagonal: int) -> None:
    for operator in (A.tril.default, A.triu.default):
        check(operator, tensor((5, 4), torch.float32), diagonal)
        check(operator, tensor((2, 3, 17), torch.int32), diagonal)
        check(operator, tensor((4, 4), torch.bool).T, diagonal)


def test_ranges() -> None:
    for args in ((2, 40, 3), (5, -6, -2), (0, 0)):
        module, _ = lowered(A.arange.start_step, *args)
        assert torch.equal(module()[0], torch.arange(*args))
