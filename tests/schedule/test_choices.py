"""Comparisons, logic, choices between values and activations against PyTorch, on every pair of nasty values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.schedule.operators import check
from tests.schedule.values import FEW, ULPS, every_pair, numbers, pairs, tensor

A = torch.ops.aten
INF = float("inf")
DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@pytest.mark.parametrize("operator", [A.eq, A.ne, A.lt, A.le, A.gt, A.ge], ids=str)
def test_comparisons(operator: Any) -> None:
    for dtype in DTYPES:
        check(operator.Tensor, *every_pair(dtype))
    for number in (0, 1.5, INF, -3):
        check(operator.Scalar, numbers(torch.float32), number)
        check(operator.Scalar, numbers(torch.int32), number)


@pytest.mark.parametrize("operator", [A.logical_and, A.logical_or, A.logical_xor], ids=str)
def test_logic(operator: Any) -> None:
    for dtype in DTYPES:
        check(operator.default, *every_pair(dtype))
        check(A.logical_not.default, numbers(dtype))
    check(operator.default, tensor((3, 17), torch.float32), tensor((17,), torch.int64))


@pytest.mark.parametrize("operator", [A.maximum, A.minimum, A.fmax, A.fmin], ids=str)
def test_larger_and_smaller(operator: Any) -> None:
    for dtype in DTYPES:
        check(operator.default, *every_pair(dtype))


@FEW
@given(shapes=pairs(), seed=st.integers(0, 99))
def test_select_and_fill(shapes: Any, seed: int) -> None:
    x, y = (tensor(shape, torch.float32, seed + i) for i, shape in enumerate(shapes))
    condition = tensor(shapes[0], torch.bool, seed)
    check(A.where.self, condition, x, y)
    check(A.where.self, condition, x.nan_to_num().clamp(-99, 99).long(), y)
    check(A.where.ScalarSelf, condition, float("nan"), y)
    check(A.where.ScalarOther, condition, y, 3)
    check(A.masked_fill.Scalar, x, condition, -INF)
    check(A.masked_fill.Scalar, x, condition, float("nan"))
    check(A.masked_fill.Tensor, x, condition, torch.tensor(2.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8], ids=str)
def test_clamp(dtype: torch.dtype) -> None:
    x, y = every_pair(dtype)
    for low, high in ((1, 5), (None, 3), (2, None), (5, 1), (0.5, 1.5), (None, float("nan"))):
        if dtype == torch.float32 or not (isinstance(high, float) and high != high):
            check(A.clamp.default, x, low, high)
    check(A.clamp.Tensor, x, y, None)
    check(A.clamp.Tensor, x, None, y)
    check(A.clamp.Tensor, x, y, y[:1])
    check(A.clamp_min.default, x, 2)
    check(A.clamp_max.Tensor, x, y)


@pytest.mark.parametrize("name", ["isnan", "isinf", "isposinf", "isneginf", "isfinite"])
def test_questions(name: str) -> None:
    for dtype in DTYPES:
        check(getattr(A, name).default, numbers(dtype))


def test_nan_to_num() -> None:
    for dtype in (torch.float32, torch.float64):
        check(A.nan_to_num.default, numbers(dtype))
        check(A.nan_to_num.default, numbers(dtype), 1.5, 2.5, -3.5)
        check(A.nan_to_num.default, numbers(dtype), None, INF)


# Activations

EXACT = [
    (A.relu.default, ()), (A.relu6.default, ()), (A.hardtanh.default, ()), (A.hardtanh.default, (-2.0, 0.5)),
    (A.leaky_relu.default, ()), (A.leaky_relu.default, (0.2,)), (A.leaky_relu.default, (-1.5,)),
    (A.threshold.default, (0.5, -7.0)), (A.hardshrink.default, (0.75,)), (A.softshrink.default, (0.75,)),
    (A.hardswish.default, ()), (A.hardsigmoid.default, ()),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "options"), EXACT, ids=str)
def test_activations_without_functions(operator: Any, options: Any) -> None:
    check(operator, numbers(torch.float32), *options)
    check(operator, tensor((5, 33), torch.float64), *options, tolerance=1e-15)


SMOOTH = [
    (A.sigmoid.default, {}), (A.tanh.default, {}), (A.elu.default, {}), (A.celu.default, {}), (A.selu.default, {}),
    (A.elu.default, {"alpha": 0.7, "scale": 1.2, "input_scale": 0.4}), (A.celu.default, {"alpha": 1.7}),
    (A.softplus.default, {}), (A.softplus.default, {"beta": 0.5, "threshold": 3}), (A.log_sigmoid.default, {}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "options"), SMOOTH, ids=str)
def test_smooth_activations(operator: Any, options: Any) -> None:
    check(operator, numbers(torch.float32), **options, tolerance=ULPS)
    check(operator, torch.linspace(-110, 110, 333), **options, tolerance=ULPS)


@pytest.mark.parametrize("operator", [A.silu.default, A.gelu.default, A.mish.default])
def test_activations_that_multiply(operator: Any) -> None:
    # PyTorch's own differ from the exact ones by several units of x/2, and in what overflows.
    check(operator, torch.linspace(-30, 30, 1001), tolerance=3e-6)
    check(operator, numbers(torch.float32).nan_to_num().clamp(-1e30, 1e30), tolerance=3e-6)
    if operator is A.gelu.default:
        check(operator, torch.linspace(-30, 30, 1001), approximate="tanh", tolerance=3e-6)


def test_prelu() -> None:
    check(A._prelu_kernel.default, tensor((2, 7, 5), torch.float32), torch.randn(1, 7, 1))
