"""Whole row operations, as the scheduler writes them: softmax, layer norm, cumulative sum."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.program.kernels import Reduction, Rows
from lower86.program.sizes import Size
from tests.codegen.expressions import Expression
from tests.codegen.test_rows import BIAS, D0, D1, FULL, LENGTHS, OUT, WEIGHT, Sizes, X
from tests.harness import assert_near, run_kernel


def softmax(kept: Size, reduced: Size, vertical: bool) -> Rows:
    strides = (1, kept) if vertical else (reduced, 1)
    e = Expression()
    x = e.load(X, strides)
    power = e.call("exp", e.call("sub", x, e.value(0)))
    e.store(FULL, strides, e.call("div", power, e.value(1)))
    e.store(OUT, (1,), e.value(0))
    return Rows((kept,), (reduced,), vertical, (Reduction("max", x), Reduction("sum", power)), e.build(), 2)


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("length", [*LENGTHS, D1], ids=str)
def test_softmax(length: Size, vertical: bool) -> None:
    n = length if isinstance(length, int) else 77
    rng = np.random.default_rng(n)
    x = rng.normal(0, 5, (n, 19) if vertical else (19, n)).astype(np.float32)
    axis = 0 if vertical else 1
    kernel = softmax(19, length, vertical)
    got = run_kernel(kernel, {X: x}, {FULL: (x.shape, "f4"), OUT: ((19,), "f4")}, dims={"d1": n})
    power = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    want = power / power.sum(axis, keepdims=True)
    assert_near(got[FULL], want, 4, want.max(axis, keepdims=True))
    np.testing.assert_array_equal(got[OUT], x.max(axis))


def test_softmax_of_masked_and_broken_rows() -> None:
    x = np.zeros((4, 20), np.float32)
    x[0, 3:], x[1, :], x[2, 5], x[3, 5] = -np.inf, -np.inf, np.nan, np.inf
    got = run_kernel(softmax(4, 20, vertical=False), {X: x}, {FULL: (x.shape, "f4"), OUT: ((4,), "f4")})[FULL]
    np.testing.assert_array_equal(got[0], [1 / np.float32(3)] * 3 + [0] * 17)
    assert np.isnan(got[1:3]).all()  # as in PyTorch; only attention makes masked rows 0
    assert np.isnan(got[3, 5])


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("length", [15, 17, 384, 1000, D1], ids=str)
def test_layer_norm_that_quantizes(length: Size, vertical: bool) -> None:
    n = length if isinstance(length, int) else 100
    rng = np.random.default_rng(n)
    x = rng.normal(2, 3, (n, 18) if vertical else (18, n)).astype(np.float32)
    weight, bias = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    strides: Sizes = (1, 18) if vertical else (length, 1)
    e = Expression()
    count = e.call("cast", e.extent(length), dtype="f32")
    value = e.load(X, strides)
    centred = e.call("sub", value, e.call("div", e.value(0), count))
    square = e.call("mul", centred, centred)
    variance = e.call("div", e.value(1), count)
    y = e.call("mul", centred, e.call("rsqrt", e.call("add", variance, e.const(1e-5))))
    y = e.call("add", e.call("mul", y, e.load(WEIGHT, (0, 1))), e.load(BIAS, (0, 1)))
    e.store(FULL, strides, y)
    e.store(OUT, strides, e.quantize(y, 0, "u8"))
    kernel = Rows((18,), (length,), vertical, (Reduction("sum", value), Reduction("sum", square)), e.build(), 4)
    params = [("f32", v) for v in (1 / np.float32(0.02), 128.0, 0.0, 255.0)]
    made = {FULL: (x.shape, "f4"), OUT: (x.shape, "u1")}
    got = run_kernel(kernel, {X: x, WEIGHT: weight, BIAS: bias}, made, dims={"d1": n}, params=params)

    axis = 0 if vertical else 1
    wide = x.astype(np.float64)
    root = np.sqrt(wide.var(axis, keepdims=True) + 1e-5)
    scale = (slice(None), None) if vertical else (None, slice(None))
    want = (wide - wide.mean(axis, keepdims=True)) / root * weight[scale] + bias[scale]
    # What is rounded on the way is as large as x itself.
    assert_near(got[FULL], want, 4, np.abs(wide / root * weight[scale]).max() + np.abs(bias).max())
    quantized = np.clip(np.rint(got[FULL] * (1 / np.float32(0.02))) + 128, 0, 255)
    np.testing.assert_array_equal(got[OUT], quantized)


def test_cumulative_sum_uses_both_indices() -> None:
    e = Expression()
    counts = e.call("le", e.index(1), e.index(0), dtype="bool")
    element = e.call("select", counts, e.load(X, (0, 1), "i64"), e.const(0, "i64"), dtype="i64")
    e.store(OUT, (1,), e.value(0, "i64"))
    x = np.random.default_rng(6).integers(-9, 9, 35)
    for vertical in (False, True):
        kernel = Rows((D0,), (D0,), vertical, (Reduction("sum", element),), e.build(), 2)
        got = run_kernel(kernel, {X: x}, {OUT: ((35,), "i8")}, dims={"d0": 35})[OUT]
        np.testing.assert_array_equal(got, np.cumsum(x))
