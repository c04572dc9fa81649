"""The `lower86::` operators: schema, fake, and references against float64 or PyTorch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lower86.ops.linear import int8_linear
from lower86.ops.quantize import quantize, quantize_static
from tests.models.qdq import Q

FEW = settings(max_examples=30, deadline=None, derandomize=True)
INTEGERS = {torch.uint8: (0, 255), torch.int8: (-128, 127)}


def integers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    low, high = INTEGERS[dtype]
    return torch.randint(low, high + 1, shape, dtype=torch.int32).to(dtype)


@st.composite
def linears(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of int8_linear."""
    torch.manual_seed(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(list(INTEGERS)))
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,), (2, 0, 3)]))
    k, n = draw(st.sampled_from([1, 7, 64])), draw(st.sampled_from([0, 1, 5]))
    args = [integers((*leading, k), dtype), integers((n, k), torch.int8)]
    if draw(st.booleans()):
        args.append(torch.randn(n))
    low, high = INTEGERS[dtype]
    kwargs: dict[str, Any] = {"x_zero_point": draw(st.sampled_from([low, 0, 3, high])), "scale": torch.rand(n) + 0.01}
    if draw(st.booleans()):
        kwargs["row_scale"] = torch.rand(*leading, 1) + 0.01 if leading else torch.rand(1)
    if draw(st.booleans()):
        kwargs["row_zero_point"] = torch.randint(low, high, (1,), dtype=torch.int32)
    return args, kwargs


@FEW
@given(case=linears())
def test_int8_linear_is_exact(case: tuple[list[Any], dict[str, Any]]) -> None:
    (x, weight, *bias), kwargs = case
    y = int8_linear(x, weight, *bias, **kwargs)
    zero_point = kwargs["x_zero_point"] + (kwargs["row_zero_point"].double() if "row_zero_point" in kwargs else 0)
    sums = (x.double() - zero_point) @ weight.double().T
    scale = kwargs["scale"].double() * (kwargs["row_scale"].double() if "row_scale" in kwargs else 1)
    product = sums * scale
    expected = product + (bias[0].double() if bias else 0)
    assert y.dtype == torch.float32
    assert y.shape == (*x.shape[:-1], weight.shape[0])
    assert ((y.double() - expected).abs() <= 2.0**-22 * (product.abs() + expected.abs()) + 1e-30).all()


@FEW
@given(case=linears())
def test_int8_linear_has_a_schema_and_a_fake(case: tuple[list[Any], dict[str, Any]]) -> None:
    args, kwargs = case
    torch.library.opcheck(int8_linear, args, kwargs, test_utils=("test_schema", "test_faketensor"))


def test_int8_linear_sums_beyond_32_bits() -> None:
    x, weight = torch.full((1, 70_000), 255, dtype=torch.uint8), torch.full((1, 70_000), -128, dtype=torch.int8)
    y = int8_linear(x, weight, x_zero_point=0, scale=torch.ones(1))
    assert y.item() == float(torch.tensor(-255.0 * 128 * 70_000))


@pytest.mark.parametrize("dtype", list(INTEGERS))
@pytest.mark.parametrize(("scale", "zero_point"), [(0.25, 0), (0.3, 17), (1e-3, -128), (7.0, 127)])
def test_quantize_is_pytorchs(dtype: torch.dtype, scale: float, zero_point: int) -> None:
    low, high = INTEGERS[dtype]
    zero_point = min(max(zero_point, low), high)
    x = torch.cat(
        [torch.randn(200) * 100 * scale, torch.arange(-20, 20) * scale / 2, torch.tensor([math.inf, -math.inf])]
    )
    inverse, zero = torch.tensor(1 / scale, dtype=torch.float32), torch.tensor(float(zero_point))
    got = quantize(x, inverse, zero, low + 2, high - 2, dtype)
    assert torch.equal(got, Q.quantize_per_tensor(x, scale, zero_point, low + 2, high - 2, dtype))
    static = (x, scale, zero_point, low + 2, high - 2, dtype)
    assert torch.equal(quantize_static(*static), got)
    torch.library.opcheck(quantize_static, static, test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(quantize, (x, inverse, zero, low, high, dtype), test_utils=("test_schema", "test_faketensor"))


def test_quantize_gives_the_zero_point_for_nan() -> None:
    x = torch.tensor([math.nan, 1.0])
    q = quantize(x, torch.tensor(2.0), torch.tensor(5.0), 0, 255, torch.uint8)
    assert q.tolist() == [5, 7]


def test_quantize_broadcasts_parameters_over_rows() -> None:
    x = torch.randn(4, 6)
    scales, zeros = torch.rand(4, 1) + 0.1, torch.randint(0, 9, (4, 1)).float()
    got = quantize(x, 1 / scales, zeros, 0, 255, torch.uint8)
    for i in range(4):
        assert torch.equal(got[i], quantize(x[i], 1 / scales[i], zeros[i], 0, 255, torch.uint8))
