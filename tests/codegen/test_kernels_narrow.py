"""Attention, depthwise convolutions and row kernels of bf16 and f16 are those of float32 on widened operands.

To the bit, so what is tested of the float32 kernels holds for them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.program.kernels import Reduction, Rows
from tests.codegen.expressions import Expression
from tests.codegen.narrow import NARROW, narrowed, widened
from tests.codegen.test_attention import Case as AttentionCase
from tests.codegen.test_contraction import LEFT, OUT, RIGHT
from tests.codegen.test_depthwise import Case as DepthwiseCase
from tests.codegen.test_depthwise import packed
from tests.harness import TARGET, run_kernel

AVX2 = Target.host(level="avx2")


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("target", [TARGET, AVX2], ids=["best", "avx2"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (5, 17, 33, 15), (64, 64, 32, 32), (70, 130, 17, 65)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(sizes: tuple[int, int, int, int], causal: bool, target: Target, dtype: str) -> None:
    case = AttentionCase.random(*sizes)
    stored = [narrowed(dtype, x) for x in (case.q, case.k, case.v)]
    kernel = case.kernel(causal=causal)
    shape = (*case.q.shape[:3], case.v.shape[3])
    params, outputs = [("f32", case.scale)], {3: (shape, "f4")}
    inputs = dict(enumerate(stored))
    got = run_kernel(dataclasses.replace(kernel, dtype=dtype), inputs, outputs, params=params, target=target)[3]
    wide = {slot: widened(dtype, x) for slot, x in inputs.items()}
    np.testing.assert_array_equal(got, run_kernel(kernel, wide, outputs, params=params, target=target)[3])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("channels", [1, 15, 16, 17, 64, 67])
@pytest.mark.parametrize("taps", [(3,), (3, 3), (5, 5)], ids=str)
def test_depthwise(taps: tuple[int, ...], channels: int, dtype: str) -> None:
    case = DepthwiseCase("f32", channels, taps, [5] * len(taps))
    x, weight = case.operands({}, False)
    stored, outputs = narrowed(dtype, x), {OUT: ((2, *[5] * len(taps), channels), "f4")}
    kernel = dataclasses.replace(case.kernel, kind=dtype)
    weights = packed(case.kernel, weight)
    got = run_kernel(kernel, {LEFT: stored, RIGHT: weights}, outputs)[OUT]
    want = run_kernel(case.kernel, {LEFT: widened(dtype, stored), RIGHT: weights}, outputs)[OUT]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 600])
def test_rows(length: int, vertical: bool, dtype: str) -> None:
    x = np.random.default_rng(length).normal(size=(7, length)).astype(np.float32)
    stored = narrowed(dtype, x.T if vertical else x)
    strides = (1, 7) if vertical else (length, 1)

    def kernel(dtype: str) -> Rows:
        e = Expression()
        element = e.call("cast", e.load(0, strides, dtype), dtype="f32") if dtype != "f32" else e.load(0, strides)
        total = e.value(0)
        e.store(1, (1,), total)
        e.store(2, strides, e.call("div", element, total))
        return Rows((7,), (length,), vertical, (Reduction("sum", element),), e.build(), 3)

    outputs = {1: ((7,), "f4"), 2: (stored.shape, "f4")}
    got = run_kernel(kernel(dtype), {0: stored}, outputs)
    want = run_kernel(kernel("f32"), {0: widened(dtype, stored)}, outputs)
    for slot in outputs:
        np.testing.assert_array_equal(got[slot], want[slot])
