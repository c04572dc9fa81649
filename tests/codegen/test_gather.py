"""Reads at computed places: every index is checked before anything is read, and nothing outside ever is."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.program.dtypes import DTYPES
from lower86.program.kernels import Pointwise, Reduction, Rows
from lower86.program.sizes import Size, dim_atom
from tests.codegen.expressions import Expression, stored
from tests.harness import Array, run_kernel

D0, D1 = dim_atom("d0"), dim_atom("d1")
INDEX, TABLE, OUT, SECOND = range(4)
WIDTHS = (1, 15, 16, 17, 33)


def lookup(width: Size, bound: Size, dtype: str, wraps: bool) -> Pointwise:
    """out[i] = table[index[i]]"""
    e = Expression()
    index = e.load(INDEX, (1,), "i64")
    value = e.gather(TABLE, (0,), {index: (1, bound)}, dtype, wraps=wraps)
    return Pointwise((width,), stored(e, value, OUT, (width,)), 1, 4096)


def embedding(rows: Size, columns: Size, bound: Size, wraps: bool = False) -> Pointwise:
    """out[i, j] = table[index[i], j]"""
    e = Expression()
    index = e.load(INDEX, (1, 0), "i64")
    value = e.gather(TABLE, (0, 1), {index: (columns, bound)}, wraps=wraps)
    return Pointwise((rows, columns), stored(e, value, OUT, (rows, columns)), 2, 4096)


def table_of(size: int, dtype: str) -> Array:
    return (np.arange(size) * 7 % 100).astype(DTYPES[dtype].numpy)


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_width(dtype: str, wraps: bool) -> None:
    table = table_of(50, dtype)
    for width in WIDTHS:
        index = np.random.default_rng(width).integers(-50 if wraps else 0, 50, width)
        index[[0, -1]] = 49, -50 if wraps else 0
        kernel = lookup(D0, 50, dtype, wraps)
        got = run_kernel(kernel, {INDEX: index, TABLE: table}, {OUT: ((width,), table.dtype.str)}, dims={"d0": width})
        np.testing.assert_array_equal(got[OUT], table[index])


BAD = [(50, False), (50, True), (-1, False), (-51, True), (2**63 - 1, False), (-(2**63), True), (2**40, True)]


@pytest.mark.parametrize(("bad", "wraps"), BAD)
@pytest.mark.parametrize("width", WIDTHS)
def test_index_out_of_range_is_reported_and_not_read(width: int, bad: int, wraps: bool) -> None:
    index = np.arange(width) % 50
    index[-1] = bad
    given = {INDEX: index, TABLE: table_of(50, "f32")}
    out = {OUT: ((width,), "f4")}
    run_kernel(lookup(width, 50, "f32", wraps), given, out, expect_status=(bad, 50))
    run_kernel(lookup(D0, D1, "f32", wraps), given, out, dims={"d0": width, "d1": 50}, expect_status=(bad, 50))
    rows = {OUT: ((width, 5), "f4")}
    given[TABLE] = table_of(250, "f32")
    run_kernel(embedding(width, 5, 50, wraps), given, rows, expect_status=(bad, 50))


@pytest.mark.parametrize("width", [1, 15, 17])
def test_lanes_that_are_no_element_are_not_checked(width: int) -> None:
    """The bound excludes index 0, which masked lanes hold, but no lane that is an element holds it."""
    e = Expression()
    index = e.call("sub", e.load(INDEX, (1,), "i64"), e.const(1, "i64"))
    kernel = Pointwise((width,), stored(e, e.gather(TABLE, (0,), {index: (1, 50)}), OUT, (width,)), 1, 16)
    place = np.random.default_rng(0).integers(1, 51, width)
    got = run_kernel(kernel, {INDEX: place, TABLE: table_of(50, "f32")}, {OUT: ((width,), "f4")})[OUT]
    np.testing.assert_array_equal(got, table_of(50, "f32")[place - 1])


@pytest.mark.parametrize("columns", [1, 5, 16, 33, D1])
@pytest.mark.parametrize("wraps", [False, True])
def test_embedding(columns: Size, wraps: bool) -> None:
    width = columns if isinstance(columns, int) else 20
    table = table_of(9 * width, "f32").reshape(9, width)
    index = np.array([0, 8, 3, 3, -9 if wraps else 1, 7, -1 if wraps else 8])
    got = run_kernel(
        embedding(D0, columns, 9, wraps), {INDEX: index, TABLE: table}, {OUT: ((7, width), "f4")},
        dims={"d0": 7, "d1": width},
    )[OUT]  # fmt: skip
    np.testing.assert_array_equal(got, table[index])


def test_two_indices_and_strides_of_its_own() -> None:
    """out[i, j] = x[a[i], j, b[j]] for x of (6, 20, 7): one index the same for all lanes, one a lane."""
    x = np.random.default_rng(1).normal(size=(6, 20, 7)).astype(np.float32)
    a, b = np.array([0, 5, -6]), np.arange(20) % 7
    e = Expression()
    places = {e.load(INDEX, (1, 0), "i64"): (140, 6), e.load(SECOND, (0, 1), "i64"): (1, 7)}
    kernel = Pointwise((3, 20), stored(e, e.gather(TABLE, (0, 7), places, wraps=True), OUT, (3, 20)), 1, 16)
    given = {INDEX: a, SECOND: b, TABLE: x}
    got = run_kernel(kernel, given, {OUT: ((3, 20), "f4")})[OUT]
    np.testing.assert_array_equal(got, x[a[:, None], np.arange(20), b])
    b[13] = 7
    run_kernel(kernel, given, {OUT: ((3, 20), "f4")}, expect_status=(7, 7))


@pytest.mark.parametrize("bound", [0, D1], ids=str)
@pytest.mark.parametrize("wraps", [False, True])
def test_an_empty_table_is_not_read(bound: Size, wraps: bool) -> None:
    """There is no element 0 to read in place of a bad one."""
    empty = np.zeros(0, np.float32)
    for width in (1, 17):
        given = {INDEX: np.zeros(width, np.int64), TABLE: empty}
        dims = {"d0": width, "d1": 0}
        out = {OUT: ((width,), "f4")}
        run_kernel(lookup(D0, bound, "f32", wraps), given, out, dims=dims, expect_status=(0, 0))
        kernel = embedding(D0, 33, bound, wraps)
        run_kernel(kernel, given, {OUT: ((width, 33), "f4")}, dims=dims, expect_status=(0, 0))
        e = Expression()
        value = e.gather(TABLE, (0, 0), {e.load(INDEX, (1, 0), "i64"): (1, bound)}, wraps=wraps)
        kernel = Pointwise((D0, 3), stored(e, value, OUT, (D0, 3)), 1, 16)
        run_kernel(kernel, given, {OUT: ((width, 3), "f4")}, dims=dims, expect_status=(0, 0))


@pytest.mark.parametrize("vertical", [False, True])
def test_inside_a_reduction(vertical: bool) -> None:
    """out[i] = Σ_j table[index[i, j]]"""
    e = Expression()
    value = e.gather(TABLE, (0, 0), {e.load(INDEX, (17, 1), "i64"): (1, 50)})
    e.store(OUT, (1,), e.value())
    kernel = Rows((19,), (17,), vertical, (Reduction("sum", value),), e.build(), 2)
    index = np.random.default_rng(2).integers(0, 50, (19, 17))
    given = {INDEX: index, TABLE: table_of(50, "f32")}
    got = run_kernel(kernel, given, {OUT: ((19,), "f4")})[OUT]
    np.testing.assert_array_equal(got, given[TABLE][index].sum(1))
    index[18, 16] = 50
    run_kernel(kernel, given, {OUT: ((19,), "f4")}, expect_status=(50, 50))
