"""Rows: reductions along the lanes and across them, of every length, against NumPy in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.program.dtypes import DTYPES
from lower86.program.kernels import Reduction, Rows
from lower86.program.sizes import Size, contiguous_strides, dim_atom
from tests.codegen.expressions import Expression
from tests.harness import Array, assert_near, run_kernel

D0, D1 = dim_atom("d0"), dim_atom("d1")
X, OUT, FULL, WEIGHT, BIAS = range(5)
LENGTHS = (1, 15, 16, 17, 100, 1000)
Sizes = tuple[Size, ...]

KINDS: Mapping[str, tuple[Sequence[str], Callable[..., Any]]] = {
    "sum": (("f32", "i64"), np.sum),
    "prod": (("f32", "i64"), np.prod),
    "max": (("f32", "i64"), np.max),
    "min": (("f32", "i64"), np.min),
    "any": (("bool",), np.any),
    "all": (("bool",), np.all),
}
DTYPES_OF = [(kind, dtype) for kind, (dtypes, _) in KINDS.items() for dtype in dtypes]


def reduction(
    kind: str, dtype: str, kept: Sizes, reduced: Sizes, strides: Sizes, vertical: bool, rows: int = 3
) -> Rows:
    """One reduction of the input itself, stored once a row."""
    e = Expression()
    x = e.load(X, strides, dtype)
    e.store(OUT, contiguous_strides(kept), e.value(0, dtype))
    return Rows(kept, reduced, vertical, (Reduction(kind, x),), e.build(), rows)


def data(kind: str, dtype: str, shape: Sequence[int]) -> Array:
    rng = np.random.default_rng(int(np.prod(shape)))
    if dtype == "bool":
        return rng.random(shape) < (0.01 if kind == "any" else 0.99)
    if kind == "prod":
        values = np.where(rng.random(shape) < 0.5, -1, 1) * (1 + 0.01 * rng.random(shape))
        return values.astype(np.float32) if dtype == "f32" else rng.integers(-(2**62), 2**62, shape) * 2 + 1
    return rng.normal(-3, 1, shape).astype(np.float32) if dtype == "f32" else rng.integers(-(2**62), 2**62, shape)


def check(kind: str, dtype: str, got: Array, x: Array, axes: tuple[int, ...]) -> None:
    reference = KINDS[kind][1]
    if kind in ("sum", "prod") and dtype == "f32":
        x = x.astype(np.float64)
        count = np.prod([x.shape[a] for a in axes])
        scale = np.abs(x).sum(axes) if kind == "sum" else np.abs(x.prod(axes)) * max(1, count / 16)
        assert_near(got, reference(x, axis=axes), 4, scale)
    else:
        np.testing.assert_array_equal(got, reference(x, axis=axes))


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize(("kind", "dtype"), DTYPES_OF)
def test_every_length(kind: str, dtype: str, vertical: bool) -> None:
    fixed = [((7,), (length,), length) for length in (1, 17, 32, 33, 100, 512, 513)]
    for kept, reduced, given in [*fixed, *(((D0,), (D1,), length) for length in LENGTHS)]:
        for count in (7,) if isinstance(kept[0], int) else (1, 7, 16, 33):
            # vertical: lanes along the kept dim, which is then the contiguous one
            shape = (given, count) if vertical else (count, given)
            strides = (1, kept[0]) if vertical else (reduced[0], 1)
            x = data(kind, dtype, shape)
            kernel = reduction(kind, dtype, kept, reduced, strides, vertical)
            dims = {"d0": count, "d1": given}
            got = run_kernel(kernel, {X: x}, {OUT: ((count,), x.dtype.str)}, dims=dims)[OUT]
            check(kind, dtype, got, x, (0,) if vertical else (1,))


@pytest.mark.parametrize("target", [Target.host(), Target.host(level="avx2")], ids=lambda target: target.level)
@pytest.mark.parametrize("of", [("max", "u8"), ("min", "i8"), ("sum", "f32"), ("max", "f32"), ("sum", "i64")], ids=str)
def test_many_columns(of: tuple[str, str], target: Target) -> None:
    """As pools have them: several vectors side by side, then one, then what is left of one."""
    kind, dtype = of
    for width in (31, 32, 33, 63, 64, 65, 130):
        rng = np.random.default_rng(width)
        shape = (2, 3, 5, width)
        x = (rng.integers(-128, 256, shape) if dtype != "f32" else rng.normal(size=shape)).astype(DTYPES[dtype].numpy)
        for last in (width, D0):
            kernel = reduction(kind, dtype, (2, last), (3, 5), (15 * last, 1, 5 * last, last), True)
            got = run_kernel(kernel, {X: x}, {OUT: ((2, width), x.dtype.str)}, dims={"d0": width}, target=target)[OUT]
            check(kind, dtype, got, x, (1, 2))


# (shape, kept dims, reduced dims) of one tensor, in any order

SEVERAL = [
    ((3, 5, 17), (0,), (1, 2)), ((3, 5, 17), (0, 1), (2,)), ((3, 5, 17), (2,), (0, 1)), ((3, 5, 17), (0, 2), (1,)),
    ((2, 33, 3, 16), (0, 2), (1, 3)), ((2, 33, 3, 16), (1, 3), (0, 2)), ((2, 3, 1, 20), (2, 3), (1, 0)),
    ((4, 18), (), (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("shape", "kept", "reduced"), SEVERAL, ids=str)
def test_several_dims(shape: tuple[int, ...], kept: tuple[int, ...], reduced: tuple[int, ...], dynamic: bool) -> None:
    strides = contiguous_strides(shape)
    names = [dim_atom(f"d{i}") if dynamic else size for i, size in enumerate(shape)]
    sizes = tuple(tuple(names[d] for d in dims) for dims in (kept, reduced))
    for kind, dtype in (("sum", "f32"), ("max", "i64"), ("any", "bool")):
        x = data(kind, dtype, shape)
        for vertical in (False, True) if kept else (False,):
            kernel = reduction(kind, dtype, *sizes, tuple(strides[d] for d in (*kept, *reduced)), vertical, 2)
            out = {OUT: ([shape[d] for d in kept], x.dtype.str)}
            got = run_kernel(kernel, {X: x}, out, dims={f"d{i}": size for i, size in enumerate(shape)})[OUT]
            check(kind, dtype, got, x, reduced)


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize(("kind", "dtype"), DTYPES_OF)
def test_empty_rows_give_the_identity(kind: str, dtype: str, vertical: bool) -> None:
    for length in (0, D1):
        kernel = reduction(kind, dtype, (5,), (length,), (0, 1), vertical)
        empty = np.zeros(0, DTYPES[dtype].numpy)
        got = run_kernel(kernel, {X: empty}, {OUT: ((5,), empty.dtype.str)}, dims={"d1": 0})[OUT]
        lowest = {"f32": -np.inf, "i64": -(2**63)}
        highest = {"f32": np.inf, "i64": 2**63 - 1}
        want = {"sum": 0, "prod": 1, "any": False, "all": True, "max": lowest.get(dtype), "min": highest.get(dtype)}
        assert (got == want[kind]).all()


@pytest.mark.parametrize("vertical", [False, True], ids=["horizontal", "vertical"])
@pytest.mark.parametrize("kind", ["max", "min", "sum"])
def test_nan_anywhere_is_the_result(kind: str, vertical: bool) -> None:
    for length in (1, 16, 17, 40):
        x = np.random.default_rng(0).normal(size=(length, length)).astype(np.float32)
        x[np.arange(length), np.arange(length)] = np.nan
        kernel = reduction(kind, "f32", (length,), (length,), (length, 1), vertical)
        assert np.isnan(run_kernel(kernel, {X: x}, {OUT: ((length,), "f4")})[OUT]).all()


def test_infinities() -> None:
    x = np.array([[np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf, -np.inf, -np.inf], [np.inf, -np.inf, 0]], np.float32)
    for kind, want in (("max", [np.inf, 2, -np.inf, np.inf]), ("sum", [np.inf, -np.inf, -np.inf, np.nan])):
        kernel = reduction(kind, "f32", (4,), (3,), (3, 1), vertical=False)
        np.testing.assert_array_equal(run_kernel(kernel, {X: x}, {OUT: ((4,), "f4")})[OUT], np.float32(want))


@pytest.mark.parametrize("length", [500, 1000, D1], ids=str)
def test_result_does_not_depend_on_how_work_is_shared(length: Size) -> None:
    x = np.random.default_rng(4).normal(size=(9, 1000)).astype(np.float32)
    results = [
        run_kernel(
            reduction("sum", "f32", (kept,), (length,), (1000, 1), False, rows), {X: x}, {OUT: ((9,), "f4")},
            dims={"d0": 9, "d1": 1000},
        )[OUT]
        for kept, rows in ((9, 1), (9, 100), (D0, 4))
    ]  # fmt: skip
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
