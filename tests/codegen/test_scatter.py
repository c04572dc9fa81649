"""Stores at computed places, and indices that are checked alone: nothing is written but what an index names."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.program.dtypes import DTYPES
from lower86.program.kernels import Pointwise
from lower86.program.sizes import Size, dim_atom
from tests.codegen.expressions import Expression, stored
from tests.harness import run_kernel, unwritten

D0, D1 = dim_atom("d0"), dim_atom("d1")
INDEX, ROWS, OUT = range(3)


def rows_kernel(count: Size, width: Size, dtype: str, rows: Size = 9) -> Pointwise:
    """out[index[i], j] = rows[i, j]"""
    e = Expression()
    index = e.load(INDEX, (1, 0), "i64")
    value = e.load(ROWS, (width, 1), dtype)
    e.store(OUT, (0, 1), value, ((index, width, rows),))
    return Pointwise((count, width), e.build(), 2, 4096)


def columns_kernel(rows: Size, count: Size, width: Size, dtype: str) -> Pointwise:
    """out[i, index[j]] = rows[i, j]"""
    e = Expression()
    index = e.load(INDEX, (0, 1), "i64")
    value = e.load(ROWS, (count, 1), dtype)
    e.store(OUT, (width, 0), value, ((index, 1, width),))
    return Pointwise((rows, count), e.build(), 2, 4096)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
def test_rows(dtype: str, width: int) -> None:
    kind = DTYPES[dtype].numpy
    index = np.array([7, 0, 3])
    rows = (np.arange(3 * width).reshape(3, width) % 2).astype(kind)
    want = unwritten((9, width), kind.str)
    want[index] = rows
    for kernel in (rows_kernel(3, width, dtype), rows_kernel(D0, D1, dtype)):
        given = {INDEX: index, ROWS: rows}
        got = run_kernel(kernel, given, {OUT: ((9, width), kind.str)}, dims={"d0": 3, "d1": width})[OUT]
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_columns(dtype: str, count: int) -> None:
    kind = DTYPES[dtype].numpy
    index = np.random.default_rng(count).permutation(40)[:count]
    rows = (np.arange(3 * count).reshape(3, count) % 2).astype(kind)
    want = unwritten((3, 40), kind.str)
    want[:, index] = rows
    for kernel in (columns_kernel(3, count, 40, dtype), columns_kernel(3, D0, 40, dtype)):
        given = {INDEX: index, ROWS: rows}
        got = run_kernel(kernel, given, {OUT: ((3, 40), kind.str)}, dims={"d0": count})[OUT]
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("dtype", ["f32", "i8", "i64", "bool"])
@pytest.mark.parametrize("bad", [9, -1, 2**62, -(2**63)])
def test_nothing_is_written_out_of_range(dtype: str, bad: int) -> None:
    kind = DTYPES[dtype].numpy
    for count, width in ((3, 1), (3, 33), (40, 17)):
        index = np.arange(count) % 9
        index[1] = bad
        rows = (np.arange(count * width).reshape(count, width) % 9 % 2).astype(kind)
        rows[:] = rows[0]  # several have one place
        want = unwritten((9, width), kind.str)
        want[index[index != bad]] = rows[0]
        given = {INDEX: index, ROWS: rows}
        got = run_kernel(rows_kernel(count, width, dtype), given, {OUT: ((9, width), kind.str)})[OUT]
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))
        want = unwritten((width, 9), kind.str)
        want[:, index[index != bad]] = rows[0, 0]
        given = {INDEX: index, ROWS: np.full((width, count), rows[0, 0], kind)}
        got = run_kernel(columns_kernel(width, count, 9, dtype), given, {OUT: ((width, 9), kind.str)})[OUT]
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_nothing_is_written_where_there_is_no_place() -> None:
    kernel = rows_kernel(D0, D1, "f32", 0)
    given = {INDEX: np.zeros(2, np.int64), ROWS: np.ones((2, 20), np.float32)}
    run_kernel(kernel, given, {OUT: ((0, 20), "<f4")}, dims={"d0": 2, "d1": 20})


@pytest.mark.parametrize("width", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("wraps", [False, True])
def test_checked(width: int, wraps: bool) -> None:
    e = Expression()
    index = e.load(0, (1,), "i64")
    kernel = Pointwise((width,), stored(e, e.add("checked", (index,), "i64", (50, wraps)), 1, (width,)), 1, 4096)
    given = np.random.default_rng(width).integers(-50 if wraps else 0, 50, width)
    got = run_kernel(kernel, {0: given}, {1: ((width,), "i8")})[1]
    np.testing.assert_array_equal(got, given % 50)
    for bad in (50, -51, 2**40, *(() if wraps else (-1,))):
        given[-1] = bad
        run_kernel(kernel, {0: given}, {1: ((width,), "i8")}, expect_status=(bad, 50))
