"""Activations packed as right operands: the panels that constants have, and exact sums, of every order and size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.codegen.target import Target
from lower86.program.kernels import Pack, RowSums
from lower86.program.sizes import Size, dim_atom
from lower86.runtime.packing import int8_panels
from tests.harness import TARGET, Array, run_kernel

D0, D1 = dim_atom("d0"), dim_atom("d1")
DTYPES = {"u8": np.uint8, "i8": np.int8}
TARGETS = [TARGET, Target.host(level="avx2")]


def integers(dtype: str, *shape: int, extreme: bool = False) -> Array:
    limits = np.iinfo(DTYPES[dtype])
    rng = np.random.default_rng(sum(shape))
    values: Array = rng.integers(limits.min, limits.max + 1, shape).astype(DTYPES[dtype])
    if extreme:
        values[...] = np.where(np.arange(shape[-1]) % 2, limits.max, limits.min)
    return values


def signed(values: Array, dtype: str) -> Array:
    """What stands for the integers as s8."""
    return values.astype(np.int64) - (128 if dtype == "u8" else 0)


def check(
    kernel: Pack,
    values: Array,
    rows: Array | None = None,
    zero_points: tuple[int, int] = (200, -100),
    target: Target = TARGET,
) -> None:
    """`values`: [batch, k, n], stored in the order that the kernel's strides say; `rows`: [m, k]."""
    batch, k, n = values.shape
    isa, panels = ISAS[target.level], -(-n // 64)
    words = -(-k // isa.word)
    stored = values if kernel.strides[-1] == 1 else values.transpose(0, 2, 1).copy()
    size = 8 if kernel.wide else 4
    outputs: dict[int, tuple[tuple[int, ...], str]] = {
        1: ((batch, panels, words, 64, isa.word), "i1"), 2: ((batch, panels * 64), f"i{size}")
    }  # fmt: skip
    given = {0: stored}
    if rows is not None:
        given[3] = rows
        outputs[4] = ((len(rows),), f"i{size}")
    params = [("i32", zero_point) for zero_point in zero_points]
    got = run_kernel(kernel, given, outputs, dims={"d0": k, "d1": n}, params=params, target=target)
    first, second = zero_points
    for i, matrix in enumerate(values):
        wanted = int8_panels(signed(matrix, kernel.dtype).astype(np.int8).T.copy(), isa.word)
        for panel in range(panels):
            columns = min(64, n - 64 * panel)
            np.testing.assert_array_equal(got[1][i, panel][:, :columns], wanted[panel][:, :columns])
        start = k * first * second - first * signed(matrix, kernel.dtype).sum(0)
        np.testing.assert_array_equal(got[2][i, :n], start.astype(f"i{size}"))
    if rows is not None:
        assert kernel.rows is not None
        sums = rows.astype(np.int64).sum(1) + (128 * k if kernel.rows.dtype == "i8" else 0)
        np.testing.assert_array_equal(got[4], (second * sums).astype(f"i{size}"))


def kernel_of(
    k: Size, n: Size, by_columns: bool, dtype: str = "u8", *, batch: int = 2, wide: bool = False, m: int = 0,
    left: str = "u8",
) -> Pack:  # fmt: skip
    rows = RowSums((m,), (k,), left) if m else None
    strides: tuple[Size, ...] = (k * n, 1, k) if by_columns else (k * n, n, 1)
    return Pack((batch,), k, n, strides, dtype, wide, rows)


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.level)
def test_sizes_known_only_when_it_runs(by_columns: bool, dtype: str, target: Target) -> None:
    kernel = kernel_of(D0, D1, by_columns, dtype)
    for k, n in itertools.product((0, 1, 2, 3, 4, 5, 63, 64, 71), (0, 2, 15, 16, 17, 64, 65, 130)):
        check(kernel, integers(dtype, 2, k, n), target=target)


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize(("k", "n"), [(7, 5), (64, 64), (66, 130), (1, 1), (35, 16), (16, 63)])
def test_fixed_sizes(by_columns: bool, k: int, n: int) -> None:
    check(kernel_of(k, n, by_columns), integers("u8", 2, k, n))


@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.level)
@pytest.mark.parametrize("wide", [False, True])
def test_sums_of_rows(left: str, target: Target, wide: bool) -> None:
    for m, k in ((1, 1), (33, 7), (3, 64), (40, 131), (2, 200), (5, 16)):
        for zero_points in ((255, -128), (0, 127), (128, 1)):
            kernel = kernel_of(k, 3, False, "i8", m=m, left=left, wide=wide)
            check(kernel, integers("i8", 2, k, 3), integers(left, m, k), zero_points, target)
    kernel = kernel_of(D0, 3, True, "u8", m=35, left=left, wide=wide)
    for k in (0, 1, 15, 64, 100):
        check(kernel, integers("u8", 2, k, 3), integers(left, 35, k, extreme=True), target=target)


def test_sums_that_do_not_fit_32_bits() -> None:
    kernel = kernel_of(90_000, 2, True, "u8", batch=1, wide=True, m=1)
    full = np.full((1, 90_000, 2), 255, np.uint8)
    check(kernel, full, np.full((1, 90_000), 255, np.uint8), (255, -128))


def test_rows_and_matrices_far_apart() -> None:
    """Heads beside each other, as a projection leaves them: rows [2, 5, 3, 8], 3 heads of 8."""
    values = integers("u8", 2, 5, 3, 8)
    kernel = Pack((2, 3), 8, 5, (120, 8, 1, 24), "u8", False, RowSums((2, 3, 5), (120, 8, 24), "u8"))
    word = ISAS[TARGET.level].word
    outputs = {1: ((2, 3, 8 // word, 64, word), "i1"), 2: ((2, 3, 64), "i4"), 4: ((2, 3, 5), "i4")}
    got = run_kernel(kernel, {0: values, 3: values}, outputs, params=[("i32", 3), ("i32", 7)])
    heads = values.transpose(0, 2, 1, 3).astype(np.int64)  # [2, 3, 5, 8]
    np.testing.assert_array_equal(got[4], 7 * heads.sum(3))
    np.testing.assert_array_equal(got[2][..., :5], 8 * 21 - 3 * (heads - 128).sum(3))
    packed = got[1][..., :5, :].transpose(0, 1, 3, 2, 4).reshape(2, 3, 5, 8)
    np.testing.assert_array_equal(packed, (heads - 128).astype(np.int8))
