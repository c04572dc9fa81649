"""Quantize by its contract: half to even, clamp in float before the conversion, NaN gives the zero point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators

from lower86.program.dtypes import DTYPES
from lower86.program.kernels import Pointwise
from tests.codegen.expressions import Expression, stored
from tests.codegen.test_operations import numbers
from tests.harness import run_kernel

QUANTIZED = [
    ("u8", 0, 0, 255), ("u8", 255, 0, 255), ("u8", 128, 0, 255), ("u8", 100, 3, 250), ("u8", 5, 0, 127),
    ("u8", 7, 9, 9), ("i8", 0, -128, 127), ("i8", -128, -128, 127), ("i8", 127, -128, 127), ("i8", 0, -127, 127),
    ("i8", 3, -8, 7),
    ("i16", 0, -32768, 32767), ("i16", -300, -32768, 32767), ("i32", 0, -(2**31), 2**31 - 1), ("i32", 9, -5, 70_000),
]  # fmt: skip
"""dtype, zero point, lowest and highest number"""


@pytest.mark.parametrize(("dtype", "zero", "low", "high"), QUANTIZED)
def test_quantize_and_dequantize(dtype: str, zero: int, low: int, high: int) -> None:
    scale = 0.05
    inverse = np.float32(1 / scale)
    halves = (np.arange(low - 3, low + 60) + 0.5 - zero).astype(np.float32) / inverse
    x = np.concatenate([numbers("f32"), halves, np.arange(-9, 9, 0.5, np.float32) / inverse]).astype(np.float32)
    e = Expression()
    q = e.quantize(e.load(0, (1,)), 0, dtype)
    e.store(1, (1,), q)
    e.store(2, (1,), e.call("dequantize", q, e.param(4), e.param(1), dtype="f32"))
    kernel = Pointwise((x.size,), e.build(), 1, 4096)
    params = [("f32", float(v)) for v in (inverse, zero, low, high, scale)]
    got = run_kernel(kernel, {0: x}, {1: ((x.size,), DTYPES[dtype].numpy.str), 2: ((x.size,), "f4")}, params=params)

    with np.errstate(all="ignore"):
        real = np.rint(x * inverse)
        want = np.clip(np.where(np.isnan(real), 0, real) + np.float32(zero), low, high).astype(np.float64)
    span = np.iinfo(DTYPES[dtype].numpy)
    want = np.clip(want, span.min, span.max)  # float32 has no 2³¹ - 1
    np.testing.assert_array_equal(got[1], want)
    assert got[1][np.isnan(x)] == min(max(zero, low), high)
    assert got[1][np.isposinf(x)] == high
    assert got[1][np.isneginf(x)] == low
    back = (got[1].astype(np.float32) - np.float32(zero)) * np.float32(scale)
    np.testing.assert_array_equal(got[2], back)


@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_quantize_agrees_with_pytorch(dtype: str) -> None:
    x = np.random.default_rng(8).normal(0, 3, 4097).astype(np.float32)
    scale, zero = 0.0236, 11
    kind = DTYPES[dtype]
    span = np.iinfo(kind.numpy)
    operator = torch.ops.quantized_decomposed.quantize_per_tensor.default
    want = operator(torch.from_numpy(x), scale, zero, span.min, span.max, getattr(torch, kind.numpy.name)).numpy()
    e = Expression()
    kernel = Pointwise((x.size,), stored(e, e.quantize(e.load(0, (1,)), 0, dtype), 1, (x.size,)), 1, 4096)
    params = [("f32", float(v)) for v in (1 / scale, zero, span.min, span.max)]
    np.testing.assert_array_equal(run_kernel(kernel, {0: x}, {1: ((x.size,), kind.numpy.str)}, params=params)[1], want)


@pytest.mark.parametrize(("dtype", "zero"), [("u8", 0), ("u8", 7), ("u8", 255), ("i8", 0), ("i8", -128), ("i8", 127)])
def test_quantize_of_bounded_numbers(dtype: str, zero: int) -> None:
    inverse, span = np.float32(1 / 0.05), np.iinfo(DTYPES[dtype].numpy)
    steps = np.concatenate([np.arange(-300, 300, 0.5), np.linspace(-(2.0**29), 2.0**29, 301)])
    x = (steps.astype(np.float32) / inverse).astype(np.float32)
    e = Expression()
    for slot, node in ((1, e.const(zero, "i32")), (2, e.param(1, "i32"))):
        q = e.call("quantize_bounded", e.load(0, (1,)), e.param(0), node, dtype=dtype)
        e.store(slot, (1,), q)
    kernel = Pointwise((x.size,), e.build(), 1, 4096)
    kind = DTYPES[dtype].numpy.str
    got = run_kernel(
        kernel, {0: x}, {1: ((x.size,), kind), 2: ((x.size,), kind)}, params=[("f32", inverse), ("i32", zero)]
    )
    want = np.clip(np.rint(x * inverse).astype(np.float64) + zero, span.min, span.max)
    np.testing.assert_array_equal(got[1], want)
    np.testing.assert_array_equal(got[2], want)
