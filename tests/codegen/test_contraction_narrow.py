"""Products of bf16 and f16, summed in float32: near float64, and the same bits with and without the dot product."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lower86.codegen.compile import llvm_text
from lower86.codegen.llvm import assembly
from lower86.codegen.target import Target
from lower86.program.kernels import Contraction, Left, Right
from lower86.program.sizes import Size
from lower86.runtime.packing import bf16_panels, float_panels
from tests.codegen.narrow import NARROW, narrowed, widened
from tests.codegen.test_contraction import D0, D1, D2, LEFT, OUT, RIGHT, plain
from tests.harness import TARGET, Array, assert_near, run_kernel

AVX2 = Target.host(level="avx2")
PLAIN = dataclasses.replace(TARGET, features=TARGET.features.replace("+avx512bf16", "-avx512bf16"))
"""The same target without the dot product of pairs."""
SIZES = [(1, 1, 1), (1, 130, 7), (2, 16, 64), (5, 17, 3), (6, 64, 33), (7, 65, 130), (13, 100, 1), (24, 63, 2)]


def panels(dtype: str, right: Array) -> Array:
    """[k, n] as kernels read it."""
    return bf16_panels(right.T) if dtype == "bf16" else float_panels(right.T)


def operands(dtype: str, m: int, n: int, k: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(m + n)
    return narrowed(dtype, rng.normal(size=(m, k)).astype("f4")), narrowed(dtype, rng.normal(size=(k, n)).astype("f4"))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "in place"])
@pytest.mark.parametrize("sizes", [*SIZES, (D0, D1, D2), (D0, 65, D2), (13, D1, 7)], ids=str)
def test_products(sizes: tuple[Size, Size, Size], is_packed: bool, dtype: str) -> None:
    m, n, k = sizes
    right = Right(RIGHT, (), 0 if is_packed else n, is_packed)
    kernel = Contraction(dtype, (), (m,), n, (k,), Left(LEFT, (), (k,), (1,)), right, 0, 0, plain((m, n)), 2)
    for given in SIZES:
        i, j, t = (size if isinstance(size, int) else one for size, one in zip(sizes, given, strict=True))
        a, b = operands(dtype, i, j, t)
        inputs, outputs = {LEFT: a, RIGHT: panels(dtype, b) if is_packed else b}, {OUT: ((i, j), "f4")}
        dims = {"d0": i, "d1": j, "d2": t}
        got = run_kernel(kernel, inputs, outputs, dims=dims)[OUT]
        a, b = (widened(dtype, x).astype(np.float64) for x in (a, b))
        assert_near(got, a @ b, 4, np.abs(a) @ np.abs(b))
        for target in (PLAIN, AVX2):
            np.testing.assert_array_equal(run_kernel(kernel, inputs, outputs, dims=dims, target=target)[OUT], got)


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("run", [1, 2, 5, 16])
def test_runs_of_a_convolution(run: int, taps: int) -> None:
    """Rows of 7 x 11 points, each meeting some runs of `run` elements: odd ones end in half a pair."""
    rng = np.random.default_rng(run)
    x = narrowed("bf16", rng.normal(size=(7 + taps, 11 * run)).astype(np.float32))
    weight = narrowed("bf16", rng.normal(size=(1, 33, taps, run)).astype(np.float32))
    left = Left(LEFT, (), (11 * run, run), (11 * run, 1))
    body = plain((7, 11, 33))
    kernel = Contraction("bf16", (), (7, 11), 33, (taps, run), left, Right(RIGHT, (), packed=True), 0, 0, body, 2)
    inputs, outputs = {LEFT: x[: 6 + taps], RIGHT: bf16_panels(weight)}, {OUT: ((7, 11, 33), "f4")}
    got = run_kernel(kernel, inputs, outputs)[OUT]
    wide, w = (widened("bf16", part).astype(np.float64) for part in (x, weight))
    rows = np.stack([wide[t : t + 7].reshape(7, 11, run) for t in range(taps)], 2)
    assert_near(got, np.einsum("abtr,gntr->abn", rows, w), 4, np.einsum("abtr,gntr->abn", np.abs(rows), np.abs(w)))
    for target in (PLAIN, AVX2):
        np.testing.assert_array_equal(run_kernel(kernel, inputs, outputs, target=target)[OUT], got)


def test_infinities_and_nan_stay_in_their_rows() -> None:
    a, b = np.ones((7, 5), np.float32), np.ones((5, 70), np.float32)
    a[2, 3], a[4, 0], b[1, 69] = np.nan, np.inf, -np.inf
    left, right = Left(LEFT, (), (5,), (1,)), Right(RIGHT, (), packed=True)
    kernel = Contraction("bf16", (), (7,), 70, (5,), left, right, 0, 0, plain((7, 70)), 1)
    inputs = {LEFT: narrowed("bf16", a), RIGHT: bf16_panels(narrowed("bf16", b).T)}
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run_kernel(kernel, inputs, {OUT: ((7, 70), "f4")})[OUT], a @ b)


def test_large_sums_are_those_of_two_fused_multiply_adds() -> None:
    """Pair after pair, the second product of each first, each addition rounded once."""
    a, b = operands("bf16", 3, 40, 1000)
    left, right = Left(LEFT, (), (1000,), (1,)), Right(RIGHT, (), packed=True)
    kernel = Contraction("bf16", (), (3,), 40, (1000,), left, right, 0, 0, plain((3, 40)), 1)
    got = run_kernel(kernel, {LEFT: a, RIGHT: bf16_panels(b.T)}, {OUT: ((3, 40), "f4")})[OUT]
    wide, w = (widened("bf16", x).astype(np.float64) for x in (a, b))
    total = np.zeros((3, 40), np.float32)
    for k in (i ^ 1 for i in range(1000)):
        total = (total + wide[:, k, None] * w[k]).astype(np.float32)  # exact in float64, but for the last rounding
    np.testing.assert_array_equal(got, total)


@pytest.mark.skipif(not TARGET.has_bf16_dots, reason="the CPU has no dot product of bf16")
def test_pairs_are_one_instruction() -> None:
    left, right = Left(LEFT, (), (64,), (1,)), Right(RIGHT, (), packed=True)
    kernel = Contraction("bf16", (), (12,), 64, (64,), left, right, 0, 0, plain((12, 64)), 1)
    text = assembly(llvm_text(kernel, TARGET.level, bf16_dots=True), TARGET.cpu, TARGET.features)
    assert text.count("vdpbf16ps") == 24
    assert "vfmadd" not in text
    assert "vdpbf16ps" not in assembly(llvm_text(kernel, "avx2"), AVX2.cpu, AVX2.features)


def test_panels_of_pairs() -> None:
    weight = np.arange(130 * 5, dtype=np.uint16).reshape(130, 5)
    laid = bf16_panels(weight)
    assert laid.shape == (3, 3, 64, 2)
    assert laid[1, 2, 3].tolist() == [weight[67, 4], 0]
    assert laid[2, 1, 1].tolist() == weight[129, 2:4].tolist()
    assert not laid[2, :, 2:].any()
