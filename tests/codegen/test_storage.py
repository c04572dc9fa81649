"""Narrow floats in memory: every number widens as it should, and float32 is rounded to the nearest, on every CPU."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.program.kernels import Band, Fill, Interleave, Pointwise
from tests.codegen.expressions import Expression
from tests.codegen.narrow import NARROW, narrowed, widened
from tests.harness import Array, run_kernel

AVX2 = Target.host(level="avx2")
NUMPY = {"bf16": "u2", "f16": "f2"}
SIZES = (1, 2, 3, 15, 16, 17, 31, 33, 100)


def every_number(dtype: str) -> Array:
    return np.arange(2**16, dtype=np.uint16).view(NUMPY[dtype])


def hard_numbers() -> Array:
    """float32 of all exponents, among them what lies in the middle of two bf16 or beside it; NaN with any payload."""
    upper = np.arange(0, 2**16, 7, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x1000, 0x0FFF, 0x1001, 0x3000], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


def check_same(got: Array, want: Array, dtype: str) -> None:
    """The same numbers, zeros with their signs; a NaN is a NaN."""
    numbers, wanted = widened(dtype, got), widened(dtype, want)
    np.testing.assert_array_equal(np.isnan(numbers), np.isnan(wanted))
    real = ~np.isnan(wanted)
    np.testing.assert_array_equal(got.view(np.uint16)[real], want.view(np.uint16)[real])


@pytest.mark.parametrize("target", [None, AVX2], ids=["best", "avx2"])
@pytest.mark.parametrize("dtype", NARROW)
def test_rounding(dtype: str, target: Target | None) -> None:
    x = hard_numbers()
    e = Expression()
    e.store(1, (1,), e.call("cast", e.load(0, (1,)), dtype=dtype))
    kernel = Pointwise((x.size,), e.build(), 1, 4096)
    got = run_kernel(kernel, {0: x}, {1: ((x.size,), NUMPY[dtype])}, target=target)[1]
    check_same(got, narrowed(dtype, x), dtype)


@pytest.mark.parametrize("target", [None, AVX2], ids=["best", "avx2"])
@pytest.mark.parametrize("dtype", NARROW)
def test_widening(dtype: str, target: Target | None) -> None:
    x = every_number(dtype)
    e = Expression()
    e.store(1, (1,), e.call("cast", e.load(0, (1,), dtype), dtype="f32"))
    e.store(2, (1,), e.load(0, (1,), dtype))
    outputs = {1: ((x.size,), "f4"), 2: ((x.size,), NUMPY[dtype])}
    got = run_kernel(Pointwise((x.size,), e.build(), 1, 4096), {0: x}, outputs, target=target)
    np.testing.assert_array_equal(got[1], widened(dtype, x))
    check_same(got[2], x, dtype)


@pytest.mark.parametrize("source", ["f64", "i64", "i32", "i8", "u8", "bool", "bf16", "f16"])
@pytest.mark.parametrize("dtype", NARROW)
def test_casts(source: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    wide = rng.normal(0, 90, 77).astype(np.float32)
    x = {
        "bf16": narrowed("bf16", wide), "f16": narrowed("f16", wide), "f64": wide.astype(np.float64) * (1 + 1e-9),
        "bool": wide > 0, "u8": np.abs(wide).astype(np.uint8), "i8": wide.astype(np.int8),
        "i32": (wide * 100).astype(np.int32), "i64": (wide * 100).astype(np.int64),
    }[source]  # fmt: skip
    numbers = widened(source, x) if source in NARROW else x.astype(np.float32)
    e = Expression()
    e.store(1, (1,), e.call("cast", e.load(0, (1,), source), dtype=dtype))
    got = run_kernel(Pointwise((77,), e.build(), 1, 4096), {0: x}, {1: ((77,), NUMPY[dtype])})[1]
    check_same(got, narrowed(dtype, numbers), dtype)
    back = Expression()
    back.store(1, (1,), back.call("cast", back.load(0, (1,), dtype), dtype="i64" if source == "i64" else "bool"))
    kind = "i8" if source == "i64" else "?"
    again = run_kernel(Pointwise((77,), back.build(), 1, 4096), {0: got}, {1: ((77,), kind)})[1]
    np.testing.assert_array_equal(again, widened(dtype, got).astype(np.int64 if source == "i64" else bool))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", NARROW)
def test_ends_and_strides(dtype: str, size: int) -> None:
    """Rows read across and along, stored side by side and apart; nothing beyond either end."""
    x = narrowed(dtype, np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32))
    e = Expression()
    total = e.call("add", *(e.call("cast", e.load(0, s, dtype), dtype="f32") for s in ((1, 3), (1, 0))))
    rounded = e.call("cast", total, dtype=dtype)
    e.store(1, (size, 1), rounded)
    e.store(2, (1, 3), rounded)
    outputs = {1: ((3, size), NUMPY[dtype]), 2: ((size, 3), NUMPY[dtype])}
    got = run_kernel(Pointwise((3, size), e.build(), 2, 32), {0: x}, outputs)
    wide = widened(dtype, x)
    check_same(got[1], narrowed(dtype, (wide + wide[0]).T), dtype)
    check_same(got[2], narrowed(dtype, wide + wide[0]), dtype)


@pytest.mark.parametrize("dtype", NARROW)
def test_reads_and_writes_at_computed_places(dtype: str) -> None:
    table = narrowed(dtype, np.random.default_rng(0).normal(size=(9, 21)).astype(np.float32))
    index = np.array([8, 0, 3, 3], np.int64)
    e = Expression()
    place = e.load(1, (1, 0), "i64")
    e.store(2, (21, 1), e.gather(0, (0, 1), {place: (21, 9)}, dtype))
    row = e.index(0)
    e.store(
        3, (0, 1), e.call("cast", e.call("cast", e.load(0, (21, 1), dtype), dtype="f32"), dtype=dtype), ((row, 21, 4),)
    )
    outputs = {2: ((4, 21), NUMPY[dtype]), 3: ((4, 21), NUMPY[dtype])}
    got = run_kernel(Pointwise((4, 21), e.build(), 2, 32), {0: table, 1: index}, outputs)
    np.testing.assert_array_equal(got[2], table[index])
    np.testing.assert_array_equal(got[3], table[:4])


@pytest.mark.parametrize("dtype", NARROW)
def test_interleaved_channels_and_halos(dtype: str) -> None:
    x = narrowed(dtype, np.random.default_rng(2).normal(size=(2, 3, 37)).astype(np.float32))
    e = Expression()
    e.store(1, (3 * 37, 3, 1), e.load(0, (3 * 37, 1, 37), dtype))
    got = run_kernel(Interleave((2, 37, 3), e.build(), 1), {0: x}, {1: ((2, 37, 3), NUMPY[dtype])})[1]
    np.testing.assert_array_equal(got, x.transpose(0, 2, 1))
    fill = Fill(0, dtype, 35, (Band(0, (35,), ()),))
    filled = run_kernel(fill, {}, {0: ((35,), NUMPY[dtype])}, params=[("f32", -1.7)])[0]
    np.testing.assert_array_equal(filled, narrowed(dtype, np.full(35, -1.7, np.float32)))
