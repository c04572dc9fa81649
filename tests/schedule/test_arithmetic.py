"""Arithmetic and functions of numbers against PyTorch: every pair of nasty values, shapes, strides, dtypes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.schedule.operators import check
from tests.schedule.values import FEW, ULPS, every_pair, numbers, pairs, tensor

A = torch.ops.aten
FLOATS = (torch.float32, torch.float64)
SIGNED = (torch.int64, torch.int32, torch.int16, torch.int8)
INTEGERS = (*SIGNED, torch.uint8)

UNARY = [
    *((op, FLOATS, 0.0) for op in (A.neg, A.abs, A.round, A.floor, A.ceil, A.trunc, A.square, A.frac, A.sgn, A.sign)),
    *((op, INTEGERS, 0.0) for op in (A.neg, A.abs, A.round, A.floor, A.ceil, A.trunc, A.square, A.sign)),
    (A.reciprocal, FLOATS, 0.0),
    (A.sqrt, FLOATS, ULPS),
    *((op, (torch.float32, torch.int64), ULPS) for op in (A.exp, A.expm1, A.log, A.log1p, A.erf, A.tanh, A.sigmoid)),
    *((op, (torch.float32, torch.int64), ULPS) for op in (A.rsqrt, A.exp2, A.log2, A.log10, A.logit)),
    *((op, FLOATS, ULPS) for op in (A.deg2rad, A.rad2deg)),
    (A.bitwise_not, (*INTEGERS, torch.bool), 0.0),
]


@pytest.mark.parametrize(("operator", "dtypes", "tolerance"), UNARY, ids=str)
def test_unary(operator: Any, dtypes: Any, tolerance: float) -> None:
    for dtype in dtypes:
        check(operator.default, numbers(dtype), tolerance=tolerance)


@pytest.mark.parametrize("operator", [A.sin, A.cos, A.tan], ids=str)
def test_waves(operator: Any) -> None:
    x = torch.cat([torch.linspace(-1000, 1000, 501), torch.tensor([0.0, -0.0, 1e-40, float("inf"), float("nan")])])
    check(operator.default, x, tolerance=ULPS if operator is not A.tan else 1e-5)


@pytest.mark.parametrize("name", ["asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"])
def test_trigonometry(name: str) -> None:
    operator = getattr(A, name).default
    check(operator, numbers(torch.float32), tolerance=ULPS)
    check(operator, torch.linspace(-1, 1, 333), tolerance=ULPS)
    check(operator, torch.cat([torch.logspace(-20, 38, 333), -torch.linspace(80, 90, 101)]), tolerance=ULPS)


def test_angles() -> None:
    check(A.atan2.default, *every_pair(torch.float32), tolerance=ULPS)


@pytest.mark.parametrize("shape", [(), (1,), (17,), (0, 3), (3, 0), (2, 3, 33)], ids=str)
def test_shapes_and_strides(shape: tuple[int, ...]) -> None:
    x = tensor(shape, torch.float32)
    check(A.neg.default, x)
    check(A.exp.default, x.permute(list(reversed(range(x.dim())))), tolerance=ULPS)
    if x.dim():
        check(A.add.Tensor, x[..., ::2], x[..., :1])
        check(A.mul.Tensor, x.expand(3, *shape), x)


BINARY = [
    *((op, (*FLOATS, *INTEGERS)) for op in (A.add.Tensor, A.sub.Tensor, A.mul.Tensor)),
    (A.div.Tensor, FLOATS),
    *((op, (*INTEGERS, torch.bool)) for op in (A.bitwise_and.Tensor, A.bitwise_or.Tensor, A.bitwise_xor.Tensor)),
    *((op, (torch.bool,)) for op in (A.add.Tensor, A.mul.Tensor)),
]


@pytest.mark.parametrize(("operator", "dtypes"), BINARY, ids=str)
def test_every_pair(operator: Any, dtypes: Any) -> None:
    for dtype in dtypes:
        check(operator, *every_pair(dtype))


@pytest.mark.parametrize("operator", [A.add.Tensor, A.maximum.default, A.lt.Tensor, A.logaddexp.default], ids=str)
@FEW
@given(shapes=pairs(), seed=st.integers(0, 99))
def test_broadcasting(operator: Any, shapes: Any, seed: int) -> None:
    x, y = (tensor(shape, torch.float32, seed + i) for i, shape in enumerate(shapes))
    check(operator, x, y, tolerance=ULPS if operator is A.logaddexp.default else 0)


@pytest.mark.parametrize("operator", [A.add, A.sub, A.mul, A.lt, A.eq, A.div], ids=str)
@pytest.mark.parametrize(
    ("left", "right"),
    [(torch.int64, torch.float32), (torch.bool, torch.int64), (torch.uint8, torch.int32), (torch.float64, torch.int8)],
)
def test_mixed_dtypes_promote_as_in_pytorch(operator: Any, left: torch.dtype, right: torch.dtype) -> None:
    if operator is A.sub and left == torch.bool:
        left = torch.uint8  # PyTorch does not subtract truth values
    shape = torch.Size([3, 17])
    check(operator.Tensor, tensor(shape, left, 1), tensor(shape, right, 2))
    check(operator.Tensor, tensor(shape, left, 1), tensor((), right, 2))


@pytest.mark.parametrize("operator", [A.add, A.sub, A.mul, A.gt, A.ne, A.div], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8], ids=str)
def test_numbers(operator: Any, dtype: torch.dtype) -> None:
    for number in (3, 0.3, -0.0, *([True] if operator is not A.sub else [])):
        check(operator.Scalar, numbers(dtype), number)
        if operator in (A.add, A.sub, A.mul, A.div):
            check(operator.Tensor, numbers(dtype), number)  # as export writes it


@pytest.mark.parametrize("alpha", [2, -1, 0.5])
def test_alpha_is_kept(alpha: float) -> None:
    x, y = torch.randn(3, 17), torch.randn(17)
    check(A.add.Tensor, x, y, alpha=alpha)
    check(A.sub.Tensor, x, y, alpha=alpha)
    check(A.rsub.Scalar, x, 3.0, alpha)


def test_sums_of_products() -> None:
    x, y, z = (tensor((3, 40), torch.float32, seed) for seed in range(3))
    for operator in (A.addcmul.default, A.addcdiv.default):
        # PyTorch may round the last product and sum once.
        check(operator, x, y, z, tolerance=3 * ULPS)
        check(operator, x, y[:1], z[0], value=-0.5, tolerance=3 * ULPS)
    check(A.addcmul.default, x.long(), x.long(), y.long(), value=3)
    for weight in (z.nan_to_num(), torch.rand(40)):
        check(A.lerp.Tensor, x.nan_to_num(), y.clamp(-9, 9).nan_to_num(), weight.clamp(-2, 2), tolerance=ULPS)
    for weight in (0.25, 0.75, 0.0, 1.0):
        check(A.lerp.Scalar, torch.randn(3, 40), torch.randn(40), weight, tolerance=ULPS)


def test_logarithms_of_sums_and_products() -> None:
    x, y = every_pair(torch.float32)
    check(A.logaddexp.default, x, y, tolerance=ULPS)
    check(A.xlogy.Tensor, x, y, tolerance=ULPS)
    check(A.hypot.default, x, y, tolerance=ULPS)
    check(A.heaviside.default, x, y)
    for eps in (None, 1e-3):
        check(A.logit.default, torch.linspace(-0.5, 1.5, 41), eps, tolerance=ULPS)


CASTS = (torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@pytest.mark.parametrize("target", CASTS, ids=str)
@pytest.mark.parametrize("source", CASTS, ids=str)
def test_casts(source: torch.dtype, target: torch.dtype) -> None:
    # Values that every dtype holds: beyond them C++ leaves the conversion undefined.
    x = tensor(torch.Size([5, 17]), torch.int64, 3).clamp(0, 99).to(source)
    check(A._to_copy.default, x, dtype=target)


@pytest.mark.parametrize("number", [1e39, -1e39, float("inf"), float("nan"), 1e-50], ids=str)
def test_numbers_beyond_float32(number: float) -> None:
    x = numbers(torch.float32)
    check(A.lt.Scalar, x, number)
    check(A.add.Scalar, x, number)
    check(A.mul.Scalar, x, number)
