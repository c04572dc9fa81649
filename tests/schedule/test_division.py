"""Division, remainders, shifts and powers: against PyTorch, and where that is not exact against exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lower86
from tests.schedule.operators import check, check_foreign, lowered
from tests.schedule.values import ULPS, every_pair, numbers, tensor

A = torch.ops.aten
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("divisor", [1, -1, 2, -2, 3, -7, 100, 2**31 - 1, -(2**62)])
def test_integers_by_a_number(dtype: torch.dtype, divisor: int) -> None:
    limits = torch.iinfo(dtype)
    if not limits.min <= divisor <= limits.max:
        return
    x = numbers(dtype)
    if divisor == -1:
        x = x[x != limits.min]  # overflows: PyTorch's result depends on how it was compiled
    for operator in (A.remainder.Scalar, A.fmod.Scalar, A.floor_divide.Scalar):
        check(operator, x, divisor)
    check(A.floor_divide.default, x, divisor)
    for mode in ("trunc", "floor"):
        check(A.div.Tensor_mode, x, divisor, rounding_mode=mode)


def test_the_lowest_integer_by_minus_one_wraps() -> None:
    for dtype in INTEGERS[:-1]:
        lowest = torch.tensor([torch.iinfo(dtype).min] * 17, dtype=dtype)
        for operator, want in ((A.floor_divide.Scalar, lowest), (A.remainder.Scalar, lowest * 0)):
            module, tensors = lowered(operator, lowest + 1, -1)
            assert module.explanation.foreign == ()
            assert torch.equal(module(lowest)[0], want)
            assert len(tensors) == 1


@pytest.mark.parametrize("operator", [A.floor_divide.default, A.remainder.Tensor, A.fmod.Tensor], ids=str)
def test_integers_by_a_tensor_are_foreign(operator: Any) -> None:
    x = tensor((3, 5), torch.int64)
    check_foreign(operator, x, x.abs() + 1)
    module, _ = lowered(operator, x, x.abs() + 1)
    with pytest.raises(lower86.InputError, match=r"refuses .* ZeroDivisionError"):
        module(x, x * 0)


def exact_remainder(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.fmod(a.numpy(), b.numpy()))


def test_float_remainders_are_exact() -> None:
    a, b = every_pair(torch.float32)
    (got,) = lowered(A.fmod.Tensor, a, b)[0](a, b)
    want = exact_remainder(a, b)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(got.signbit()[~want.isnan()], want.signbit()[~want.isnan()])
    (got,) = lowered(A.remainder.Tensor, a, b)[0](a, b)
    opposite = (want != 0) & ((b < 0) != (want < 0))
    torch.testing.assert_close(got, torch.where(opposite, want + b, want), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("operator", [A.fmod, A.remainder, A.floor_divide, A.div], ids=str)
def test_floats_divided(operator: Any) -> None:
    a, b = every_pair(torch.float32)
    # Beyond such quotients PyTorch's own vectors give NaN, or are off.
    near = (a / b).abs().nan_to_num(0) < 1e6
    a, b = a[near], b[near]
    if operator is A.div:
        for mode in (None, "trunc", "floor"):
            check(A.div.Tensor_mode, a, b, rounding_mode=mode)
            check(A.div.Scalar_mode, a, 0.3, rounding_mode=mode)
        return
    check(operator.default if operator is A.floor_divide else operator.Tensor, a, b)
    for number in (0.3, -7.0, 2, 0.0, float("inf")):
        check(operator.Scalar, a.clamp(-1e3, 1e3), number)


def test_float64_is_cut_but_not_rounded_down() -> None:
    x = torch.linspace(-5, 5, 21, dtype=torch.float64)
    check(A.div.Tensor_mode, x, 0.3, rounding_mode="trunc")
    check_foreign(A.div.Tensor_mode, x, 0.3, rounding_mode="floor")
    check_foreign(A.remainder.Scalar, x, 0.3)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("operator", [A.bitwise_left_shift, A.bitwise_right_shift], ids=str)
def test_shifts(operator: Any, dtype: torch.dtype) -> None:
    check(operator.Tensor, *every_pair(dtype))
    legacy = A.__lshift__ if operator is A.bitwise_left_shift else A.__rshift__
    for by in (0, 1, 7, 8, 31, 63, 64, 100):
        check(operator.Tensor_Scalar, numbers(dtype), by)
        check(legacy.Scalar, numbers(dtype), by)


EXPONENTS = (0, 1, 2, 3, 4, -1, -2, -3, 0.5, -0.5, 1 / 3, 2.5, 7, 100.0, float("inf"), float("nan"))


@pytest.mark.parametrize("exponent", EXPONENTS, ids=str)
def test_power_of_a_number(exponent: float) -> None:
    check(A.pow.Tensor_Scalar, numbers(torch.float32), exponent, tolerance=ULPS)
    if exponent in (0.5, 2, 3, -1):
        check(A.pow.Tensor_Scalar, numbers(torch.float64), exponent, tolerance=ULPS)
    if isinstance(exponent, int) and exponent >= 0:
        for dtype in (torch.int64, torch.int32, torch.uint8):
            check(A.pow.Tensor_Scalar, numbers(dtype), exponent)


def test_power_of_every_pair() -> None:
    check(A.pow.Tensor_Tensor, *every_pair(torch.float32), tolerance=ULPS)
    for base in (2, 0.5, 10.0, -2.0, 0.0, 1):
        check(A.pow.Scalar, base, numbers(torch.float32), tolerance=ULPS)
    check_foreign(A.pow.Tensor_Tensor, numbers(torch.int64), numbers(torch.int64).abs() % 5)


def within_an_ulp(got: torch.Tensor, want: torch.Tensor) -> None:
    """Of float64 results, where those are finite in float32."""
    finite = want.abs() < 3.4e38
    ulp = 2.0 ** (torch.frexp(want.abs().clamp(min=2.0**-126))[1] - 24)
    off = ((got.double() - want).abs() / ulp)[finite]
    assert float(off.max()) <= 1
    assert torch.equal(got[~finite & ~want.isnan()].double().sign(), want[~finite & ~want.isnan()].sign())


def test_powers_and_logarithms_are_within_an_ulp() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.exp(torch.randn(50_000, generator=generator) * 20)
    y = torch.randn(50_000, generator=generator) * torch.exp(torch.randn(50_000, generator=generator) * 3)
    for operator, arguments in (
        (A.pow.Tensor_Tensor, (x, y)),
        (A.exp2.default, (y,)),
        (A.log2.default, (x,)),
        (A.log10.default, (x,)),
    ):
        (got,) = lowered(operator, *arguments)[0](*arguments)
        within_an_ulp(got, operator(*(a.double() for a in arguments)))


def test_logarithms_of_exact_powers_are_exact() -> None:
    twos = torch.tensor([2.0**n for n in range(-149, 128)])
    (got,) = lowered(A.log2.default, twos)[0](twos)
    assert torch.equal(got, torch.arange(-149, 128).float())
    tens = torch.tensor([10.0**n for n in range(11)])
    (got,) = lowered(A.log10.default, tens)[0](tens)
    assert torch.equal(got, torch.arange(11).float())
