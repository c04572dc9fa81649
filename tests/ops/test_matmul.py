"""`lower86::int8_matmul`: schema, fake, and its reference against exact arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lower86.ops.matmul import int8_matmul
from tests.ops.test_conv import CHECKS
from tests.ops.test_operators import INTEGERS, integers

U8, S8 = torch.uint8, torch.int8
SHAPES = [
    ((4, 6), (6, 5)), ((3, 4, 6), (6, 5)), ((4, 6), (3, 6, 5)), ((2, 3, 4, 6), (3, 6, 5)), ((2, 1, 4, 6), (3, 6, 5)),
    ((0, 6), (6, 5)), ((4, 0), (0, 5)), ((4, 6), (6, 0)), ((0, 4, 6), (0, 6, 5)), ((1, 1), (1, 1)),
]  # fmt: skip


def case(left: tuple[int, ...], right: tuple[int, ...], first: torch.dtype, second: torch.dtype) -> tuple[Any, Any]:
    parameters = {"x_zero_point": INTEGERS[first][1], "y_zero_point": INTEGERS[second][0], "scale": torch.rand(1)}
    return (integers(left, first), integers(right, second)), parameters


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_int8_matmul_is_exact(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    for first, second in ((U8, U8), (U8, S8), (S8, U8), (S8, S8)):
        (x, y), parameters = case(left, right, first, second)
        sums = torch.matmul(x.double() - parameters["x_zero_point"], y.double() - parameters["y_zero_point"])
        expected = (sums * parameters["scale"].double()).float()
        assert torch.equal(int8_matmul(x, y, **parameters), expected)
        torch.library.opcheck(int8_matmul, (x, y), parameters, test_utils=CHECKS)


def test_a_scale_for_each_row_and_column() -> None:
    x, y = integers((2, 4, 6), U8), integers((2, 6, 5), S8)
    scale: Tensor = torch.rand(4, 1) * torch.rand(5)
    got = int8_matmul(x, y, x_zero_point=3, y_zero_point=0, scale=scale)
    assert torch.equal(got, (torch.matmul(x.double() - 3, y.double()) * scale.double()).float())


def test_sums_beyond_32_bits() -> None:
    x, y = torch.full((1, 40_000), 255, dtype=U8), torch.full((40_000, 1), 255, dtype=U8)
    y = int8_matmul(x, y, x_zero_point=0, y_zero_point=0, scale=torch.ones(1))
    assert y.item() == float(torch.tensor(255.0 * 255 * 40_000))
