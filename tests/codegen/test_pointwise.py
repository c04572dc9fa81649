"""Pointwise kernels: every shape, stride and chunking; loads, stores and gathers that touch nothing they should not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lower86.program.dtypes import DTYPES, is_narrow
from lower86.program.kernels import Pointwise
from lower86.program.sizes import Size, ceil_div, contiguous_strides, dim_atom, evaluate
from tests.codegen.expressions import Expression, stored
from tests.codegen.narrow import narrowed
from tests.harness import Array, examples, run_kernel, unwritten

D0, D1, D2 = (dim_atom(f"d{i}") for i in range(3))
WIDTHS = (1, 15, 16, 17, 33, 4097)


def run_copy(kernel: Pointwise, x: Array, shape: Sequence[int], **dims: int) -> Array:
    return run_kernel(kernel, {0: x}, {1: (tuple(shape), x.dtype.str)}, dims=dims)[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_width_of_every_dtype(dtype: str) -> None:
    """With one lane left over too, where a wrong store writes more than the lane."""
    for width in WIDTHS:
        x = (np.random.default_rng(width).integers(0, 256, (3, width)) % 251).astype(DTYPES[dtype].numpy)
        e = Expression()
        kernel = Pointwise((3, width), stored(e, e.load(0, (width, 1), dtype), 1, (3, width)), 2, 4096)
        np.testing.assert_array_equal(run_copy(kernel, x, x.shape), x)


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", ["i64", "f32"])
def test_a_narrowed_last_lane_stays_within_its_bytes(source: str, target: str) -> None:
    """LLVM 22 stores it unnarrowed if it may: see `Code.masked_store`."""
    for shape, chunk in (((1,), 16), ((17,), 16), ((4097,), 4096), ((5, 33), 64), ((D0,), 4096), ((3, D0), 16)):
        sizes = [evaluate(size, {"d0": 17}) for size in shape]
        x = np.arange(np.prod(sizes)).reshape(sizes).astype(DTYPES[source].numpy) % 100
        e = Expression()
        value = e.call("cast", e.load(0, contiguous_strides(shape), source), dtype=target)
        kernel = Pointwise(shape, stored(e, value, 1, shape), 1, chunk)
        got = run_kernel(kernel, {0: x}, {1: (sizes, DTYPES[target].numpy.str)}, dims={"d0": 17})[1]
        want = narrowed(target, x.astype(np.float32)) if is_narrow(target) else x.astype(DTYPES[target].numpy)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("chunk", [16, 32, 48, 4096])
@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("sizes", [(D0, D1, D2), (2, 5, D2), (D0, 5, 33)], ids=str)
def test_units_of_any_size_cover_every_point_once(sizes: tuple[Size, ...], rows: int, chunk: int) -> None:
    e = Expression()
    kernel = Pointwise(sizes, stored(e, e.load(0, contiguous_strides(sizes)), 1, sizes), rows, chunk)
    for shape in ((2, 5, 33), (2, 5, 1), (2, 5, 64), (7, 5, 33)):
        if all(size == n or not isinstance(size, int) for size, n in zip(sizes, shape, strict=True)):
            x = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
            np.testing.assert_array_equal(run_copy(kernel, x, shape, d0=shape[0], d1=shape[1], d2=shape[2]), x)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (D0,), (D0, 3), (3, D0)])
def test_nothing_to_do(shape: tuple[Size, ...]) -> None:
    e = Expression()
    kernel = Pointwise(shape, stored(e, e.load(0, contiguous_strides(shape), "i8"), 1, shape), 2, 16)
    sizes = [evaluate(size, {"d0": 0}) for size in shape]
    assert run_copy(kernel, np.zeros(sizes, np.int8), sizes, d0=0).size == 0


# Strides


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in which a tensor of `shape` may lie: dims in any order, some broadcast, some with gaps."""
    strides, step = [0] * len(shape), 1
    for dim in draw(st.permutations(range(len(shape)))):
        if draw(st.integers(0, 3)):
            step *= draw(st.sampled_from([1, 1, 2, 3]))
            strides[dim] = step
            step *= shape[dim]
    return tuple(strides)


def elements(shape: Sequence[int], strides: Sequence[int]) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def seen(flat: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    return np.lib.stride_tricks.as_strided(flat, shape, [stride * flat.itemsize for stride in strides])


@examples(60)
@given(data=st.data(), dtype=st.sampled_from(["f32", "u8", "i64", "bool"]), dynamic=st.booleans())
def test_any_strides(data: st.DataObject, dtype: str, dynamic: bool) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 17, 33]), min_size=1, max_size=3)))
    one, two = data.draw(layouts(shape)), data.draw(layouts(shape))
    out = data.draw(
        layouts(shape).filter(lambda strides: all(s or n == 1 for s, n in zip(strides, shape, strict=True)))
    )
    rng = np.random.default_rng(0)
    kind = DTYPES[dtype].numpy
    a, b = (rng.integers(0, 100, elements(shape, strides)).astype(kind) for strides in (one, two))
    # Sizes and strides known only when the kernel runs are named by their value.
    known = sorted({*shape, *one, *two, *out} - {0, 1})
    of = {value: dim_atom(f"d{i}") if dynamic else value for i, value in enumerate(known)}
    sizes, left, right, written = (tuple(of.get(v, v) for v in values) for values in (shape, one, two, out))
    e = Expression()
    e.store(2, written, e.call("max", e.load(0, left, dtype), e.load(1, right, dtype)))
    kernel = Pointwise(sizes, e.build(), data.draw(st.sampled_from([1, 4])), data.draw(st.sampled_from([16, 4096])))
    size = elements(shape, out)
    dims = {f"d{i}": value for i, value in enumerate(known)} if dynamic else {}
    got = run_kernel(kernel, {0: a, 1: b}, {2: ((size,), kind.str)}, dims=dims)[2]
    want = unwritten((size,), kind.str)
    seen(want, shape, out)[...] = np.maximum(seen(a, shape, one), seen(b, shape, two))
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_a_quotient_may_be_negative_on_its_way() -> None:
    """(n - 1) // 2 + 1, the length of a slice with step 2, is 0 for n = 0."""
    size = (D0 - 1) // 2 + 1
    e = Expression()
    kernel = Pointwise((size,), stored(e, e.call("add", e.load(0, (2,), "i64"), e.extent(size)), 1, (size,)), 1, 16)
    for n in (1, 2, 33, 34, 35):
        x = np.arange(n)
        np.testing.assert_array_equal(run_copy(kernel, x, (-(-n // 2),), d0=n), x[::2] + -(-n // 2))
    e = Expression()
    kernel = Pointwise((3,), stored(e, e.extent((D0 - 7) // 4), 1, (3,)), 1, 16)
    for n in (0, 3, 6, 7, 8, 11):
        np.testing.assert_array_equal(run_copy(kernel, np.zeros(0, np.int64), (3,), d0=n), (n - 7) // 4)


def test_leaves() -> None:
    """Index, extent, const and param, and what mixes scalars with vectors."""
    e = Expression()
    place = e.call("add", e.call("mul", e.index(0), e.extent(D1)), e.index(1))
    e.store(0, (D1, 1), place)
    scaled = e.call("mul", e.call("cast", place, dtype="f32"), e.call("add", e.param(0), e.const(0.5)))
    e.store(1, (D1, 1), scaled)
    e.store(2, (D1, 1), e.param(1, "i64"))
    e.store(3, (D1, 1), e.const(True, "bool"))
    kernel = Pointwise((D0, D1), e.build(), 2, 16)
    made = {0: ((3, 37), "<i8"), 1: ((3, 37), "<f4"), 2: ((3, 37), "<i8"), 3: ((3, 37), "?")}
    got = run_kernel(kernel, {}, made, dims={"d0": 3, "d1": 37}, params=[("f32", 0.25), ("i64", -7)])
    want = np.arange(3 * 37).reshape(3, 37)
    np.testing.assert_array_equal(got[0], want)
    np.testing.assert_array_equal(got[1], want.astype(np.float32) * np.float32(0.75))
    assert (got[2] == -7).all()
    assert got[3].all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4028235e38, 1e39, 0.1])
def test_float_constants_keep_their_bits(value: float) -> None:
    for dtype in ("f32", "f64"):
        e = Expression()
        kernel = Pointwise((17,), stored(e, e.const(value, dtype), 0, (17,)), 1, 16)
        kind = DTYPES[dtype].numpy
        with np.errstate(over="ignore"):
            want = np.full(17, value).astype(kind)
        got = run_kernel(kernel, {}, {0: ((17,), kind.str)})[0]
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def test_chunks_round_up() -> None:
    e = Expression()
    kernel = Pointwise((D0, D1), stored(e, e.const(1.0), 0, (D0, D1)), 3, 32)
    assert evaluate(kernel.units(), {"d0": 7, "d1": 65}) == 3 * evaluate(ceil_div(D1, 32), {"d1": 65}) == 9
