"""`lower86::int8_conv` and `lower86::windows`: schema, fake, and references against PyTorch's own, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lower86.ops.conv import int8_conv
from lower86.ops.windows import windows
from tests.ops.test_operators import FEW, INTEGERS, integers

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
CHECKS = ("test_schema", "test_faketensor")
Case = tuple[Tensor, Tensor, list[Tensor], dict[str, Any]]


def several(draw: st.DrawFn, dims: int, low: int, high: int) -> list[int]:
    return [draw(st.integers(low, high)) for _ in range(dims)]


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    """x, weight [n, c, taps…], a bias or none, and options of int8_conv; only the batch may be empty."""
    torch.manual_seed(draw(st.integers(0, 99)))
    dims, dtype = draw(st.integers(1, 3)), draw(st.sampled_from(list(INTEGERS)))
    groups, channels, columns, batch = (several(draw, 1, *limits)[0] for limits in ((1, 3), (1, 3), (1, 2), (0, 2)))
    taps, stride, dilation, spread = (several(draw, dims, 1, 3) for _ in range(4))
    low, high = several(draw, dims, -2, 3), several(draw, dims, -2, 3)
    sizes = several(draw, dims, 1, 5)
    for size, t, d, s, before, after in zip(sizes, taps, dilation, spread, low, high, strict=True):
        assume((size - 1) * s + 1 + before + after > d * (t - 1))
        assume((size - 1) * s + 1 + min(before, 0) + min(after, 0) >= 0)
    n = groups * columns
    x, weight = integers((batch, groups * channels, *sizes), dtype), integers((n, channels, *taps), torch.int8)
    zero_point = draw(st.sampled_from([INTEGERS[dtype][0], 0, 3, INTEGERS[dtype][1]]))
    options = {"x_zero_point": zero_point, "scale": torch.rand(n) + 0.01, "groups": groups}
    geometry = {"stride": stride, "low": low, "high": high, "dilation": dilation, "spread": spread}
    return x, weight, [torch.randn(n)] * draw(st.integers(0, 1)), {**options, **geometry}


def check(y: Tensor, sums: Tensor, scale: Tensor, bias: list[Tensor]) -> None:
    """y = sums · scale + bias but for two roundings to float32."""
    shape = [-1, *[1] * (sums.dim() - 2)]
    product = sums * scale.double().reshape(shape)
    expected = product + (bias[0].double().reshape(shape) if bias else 0)
    assert y.dtype == torch.float32
    assert y.shape == expected.shape
    assert ((y.double() - expected).abs() <= 2.0**-22 * (product.abs() + expected.abs()) + 1e-30).all()


@FEW
@given(case=convolutions(), channels_last=st.booleans())
def test_int8_conv_has_a_schema_and_a_fake(case: Case, channels_last: bool) -> None:
    x, weight, bias, options = case
    if channels_last and x.dim() == 4:
        x, weight = (t.to(memory_format=torch.channels_last) for t in (x, weight))
    torch.library.opcheck(int8_conv, (x, weight, *bias), options, test_utils=CHECKS)


@FEW
@given(case=convolutions(), pad=st.integers(0, 2))
def test_int8_conv_is_a_convolution(case: Case, pad: int) -> None:
    x, weight, bias, options = case
    dims = x.dim() - 2
    geometry = {"low": [pad] * dims, "high": [pad] * dims, "spread": [1] * dims}
    stride, dilation, groups = options["stride"], options["dilation"], options["groups"]
    reach = zip(x.shape[2:], weight.shape[2:], dilation, strict=True)
    assume(all(size + 2 * pad > d * (t - 1) for size, t, d in reach))
    y = int8_conv(x, weight, *bias, **{**options, **geometry})
    centred = x.double() - options["x_zero_point"]
    sums = CONVOLUTIONS[dims - 1](centred, weight.double(), None, stride, pad, dilation, groups)
    check(y, sums, options["scale"], bias)


@FEW
@given(case=convolutions(), draw=st.data())
def test_int8_conv_is_a_transposed_convolution_of_the_flipped_weight(case: Case, draw: st.DataObject) -> None:
    x, weight, bias, options = case
    dims, groups, stride, dilation = x.dim() - 2, options["groups"], options["spread"], options["dilation"]
    padding = [draw.draw(st.integers(0, 3)) for _ in range(dims)]
    more = [draw.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    taps = weight.shape[2:]
    low = [d * (t - 1) - pad for d, t, pad in zip(dilation, taps, padding, strict=True)]
    high = [before + extra for before, extra in zip(low, more, strict=True)]
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    assume(all(n + a + b > d * (t - 1) for n, a, b, d, t in zip(sizes, low, high, dilation, taps, strict=True)))
    geometry = {"stride": [1] * dims, "spread": stride, "low": low, "high": high}
    y = int8_conv(x, weight, *bias, **{**options, **geometry})
    # [groups·columns, c, taps…] as PyTorch wants it: [groups·c, columns, taps…]
    apart = weight.double().reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    centred, turned = x.double() - options["x_zero_point"], apart.flip(list(range(2, 2 + dims)))
    sums = TRANSPOSED[dims - 1](centred, turned, None, stride, padding, more, groups, dilation)
    check(y, sums, options["scale"], bias)


def test_int8_conv_sums_beyond_32_bits() -> None:
    shape = (1, 700, 10, 10)
    x, weight = torch.full(shape, 255, dtype=torch.uint8), torch.full(shape, -128, dtype=torch.int8)
    one, none = [1, 1], [0, 0]
    options = {"stride": one, "low": none, "high": none, "dilation": one, "spread": one, "groups": 1}
    y = int8_conv(x, weight, x_zero_point=0, scale=torch.ones(1), **options)
    assert y.item() == float(torch.tensor(-255.0 * 128 * 70_000))


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, dict[str, Any]]:
    """Arguments of `windows`, of integers and floats, with a batch dim and without."""
    torch.manual_seed(draw(st.integers(0, 99)))
    dims, dtype = draw(st.integers(1, 3)), draw(st.sampled_from([torch.uint8, torch.int8, torch.float32]))
    sizes, kernel, stride, dilation = (several(draw, dims, 1, most) for most in (5, 3, 3, 2))
    low, high = several(draw, dims, 0, 2), several(draw, dims, 0, 2)
    for size, k, d, before, after in zip(sizes, kernel, dilation, low, high, strict=True):
        assume(size + before + after > d * (k - 1))
    shape = (*draw(st.sampled_from([(2,), (1, 3), (0, 2), (2, 1, 2)])), *sizes)
    x = torch.randn(shape) if dtype == torch.float32 else integers(shape, dtype)
    fill = draw(st.sampled_from([-float("inf"), 0.0] if dtype == torch.float32 else [0, 7]))
    return x, {"kernel": kernel, "stride": stride, "low": low, "high": high, "dilation": dilation, "fill": fill}


@FEW
@given(case=pools())
def test_windows_has_a_schema_and_a_fake(case: tuple[Tensor, dict[str, Any]]) -> None:
    x, options = case
    torch.library.opcheck(windows, (x,), options, test_utils=CHECKS)


@FEW
@given(case=pools())
def test_windows_are_the_elements_around_each_place(case: tuple[Tensor, dict[str, Any]]) -> None:
    x, options = case
    kernel = options["kernel"]
    dims, first = len(kernel), x.dim() - len(kernel)
    y = windows(x, **options)
    assert y.dtype == x.dtype
    assert y.shape[x.dim() :] == tuple(kernel)
    for place in itertools.product(*(range(n) for n in y.shape[first:])):
        out, tap = place[:dims], place[dims:]
        steps = zip(out, options["stride"], tap, options["dilation"], options["low"], strict=True)
        at = [o * s + t * d - low for o, s, t, d, low in steps]
        inside = all(0 <= i < n for i, n in zip(at, x.shape[first:], strict=True))
        element, source = (..., *place), (..., *at)
        expected = x[source] if inside else torch.full(x.shape[:first], options["fill"], dtype=x.dtype)
        assert torch.equal(y[element], expected)
    ends = zip(x.shape[first:], options["low"], options["high"], options["dilation"], kernel, strict=True)
    reach = [n + low + high - d * (k - 1) - 1 for n, low, high, d, k in ends]
    assert y.shape[first : x.dim()] == tuple(r // s + 1 for r, s in zip(reach, options["stride"], strict=True))


@pytest.mark.parametrize("fill", [0.0, 1.5])
def test_windows_are_pytorchs_unfold(fill: float) -> None:
    x = torch.randn(2, 3, 7, 6)
    y = windows(x, kernel=[3, 2], stride=[2, 3], low=[1, 2], high=[1, 2], dilation=[2, 1], fill=fill)
    expected = F.unfold(F.pad(x, (2, 2, 1, 1), value=fill), (3, 2), dilation=(2, 1), stride=(2, 3))
    assert torch.equal(y.permute(0, 1, 4, 5, 2, 3).reshape(expected.shape), expected)
