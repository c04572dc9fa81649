"""Integer contractions: sums are exact, whatever the shape, and the epilogue is float32 in the order written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lower86.codegen.isa import ISAS
from lower86.program.body import Body
from lower86.program.kernels import Contraction, Left, Right
from lower86.program.sizes import Size, dim_atom
from lower86.runtime.packing import int8_panels
from tests.codegen.expressions import Expression, stored
from tests.harness import TARGET, Array, assert_near, run_kernel, unwritten

D0, D1, D2 = (dim_atom(f"d{i}") for i in range(3))
LEFT, RIGHT, START, OUT, SCALE, BIAS, OTHER, OUT2 = range(8)
M, N = (1, 2, 5, 6, 7, 12, 13, 24), (1, 15, 16, 17, 63, 64, 65, 100, 130)
K = (1, 2, 3, 4, 5, 63, 64, 65, 130)
KINDS = {"u8s8": np.uint8, "s8s8": np.int8}


def panels_of(weight: Array) -> Array:
    """The weights as the target's dot product reads them."""
    return int8_panels(weight, ISAS[TARGET.level].word)


def plain(shape: Sequence[Size]) -> Body:
    """Only stores what the kernel computes."""
    e = Expression()
    return stored(e, e.value(), OUT, tuple(shape))


def int8_kernel(
    kind: str, m: Size, n: Size, k: Size, body: Body | None = None, *, wide: int = 0, blocks: int = 2
) -> Contraction:
    left, right = Left(LEFT, (), (k,), (1,)), Right(RIGHT, (), packed=True)
    return Contraction(kind, (), (m,), n, (k,), left, right, START, wide, body or plain((m, n)), blocks)


def operands(kind: str, m: int, n: int, k: int, extreme: bool = False) -> tuple[Array, Array]:
    """Activations (m, k) and weights (n, k); extreme ones make the largest sums of either sign."""
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    limits = np.iinfo(KINDS[kind])
    x = rng.integers(limits.min, limits.max + 1, (m, k)).astype(KINDS[kind])
    weight = rng.integers(-128, 128, (n, k)).astype(np.int8)
    if extreme:
        x[...] = np.where(np.arange(m)[:, None] % 2, limits.max, limits.max if kind == "u8s8" else limits.min)
        weight[...] = np.where(np.arange(n)[:, None] % 2, 127, -128)
    return x, weight


def started(kind: str, weight: Array, zero_point: int, dtype: type = np.int32) -> Array:
    """What sums begin with, so that they come out as Σ (x - zero point)·w: padded to whole panels."""
    start = -(zero_point + (128 if kind == "s8s8" else 0)) * weight.sum(1, dtype=np.int64)
    return np.pad(start, (0, -start.size % 64)).astype(dtype)


def exact(x: Array, weight: Array, zero_point: int = 0) -> Array:
    result: Array = (x.astype(np.int64) - zero_point) @ weight.astype(np.int64).T
    return result


def check_int8(kernel: Contraction, x: Array, weight: Array, zero_point: int) -> None:
    (m, k), n = x.shape, weight.shape[0]
    start = started(kernel.kind, weight, zero_point, np.int64 if kernel.wide else np.int32)
    inputs = {LEFT: x, RIGHT: panels_of(weight), START: start}
    got = run_kernel(kernel, inputs, {OUT: ((m, n), "f4")}, dims={"d0": m, "d1": n, "d2": k})[OUT]
    np.testing.assert_array_equal(got, exact(x, weight, zero_point).astype(np.float32))


STATIC = sorted({(m, N[i % 9], K[(i + shift) % 9]) for i, m in enumerate((*M, 33)) for shift in (0, 3, 5)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "n", "k"), STATIC)
def test_int8_of_every_tile_shape(kind: str, m: int, n: int, k: int) -> None:
    kernel = int8_kernel(kind, m, n, k, blocks=1 + m % 3)
    for extreme, zero_point in ((False, 0), (False, 113), (True, 255 if kind == "u8s8" else -128)):
        check_int8(kernel, *operands(kind, m, n, k, extreme), zero_point)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_of_sizes_known_only_when_it_runs(kind: str) -> None:
    kernel = int8_kernel(kind, D0, D1, D2)
    for m, n, k in itertools.product(M, N, K):
        check_int8(kernel, *operands(kind, m, n, k, extreme=bool(m % 2)), 7)


@pytest.mark.parametrize(("m", "n", "k"), [(D0, 100, 65), (13, D1, 64), (7, 33, D2)])
def test_int8_of_one_dynamic_size(m: Size, n: Size, k: Size) -> None:
    for sizes in ((13, 100, 65), (1, 1, 1), (6, 64, 130), (0, 5, 3)):
        known = [size if isinstance(size, int) else given for size, given in zip((m, n, k), sizes, strict=True)]
        check_int8(int8_kernel("u8s8", m, n, k), *operands("u8s8", *known), 200)


@pytest.mark.parametrize("k", [1, 3, 63, 64, 65, 130, 200, D2])
@pytest.mark.parametrize("kind", KINDS)
def test_wide_sums_over_several_chunks(kind: str, k: Size) -> None:
    for m, n, depth in ((1, 17, 3), (5, 65, 128), (4, 64, 150)):
        kernel = int8_kernel(kind, m, n, k, wide=64)
        check_int8(kernel, *operands(kind, m, n, k if isinstance(k, int) else depth, extreme=True), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_that_do_not_fit_32_bits(kind: str) -> None:
    x, weight = operands(kind, 3, 17, 70_000, extreme=True)
    total = exact(x, weight)
    assert kind == "s8s8" or total.min() < -(2**31)
    kernel = int8_kernel(kind, 3, 17, 70_000, wide=32768)
    check_int8(kernel, x, weight, 0)
    # Beyond 2^24 float32 hides the low digits: take most of the sum away again.
    left = np.arange(17)
    start = left - total[0] - (128 * weight.sum(1, dtype=np.int64) if kind == "s8s8" else 0)
    inputs = {LEFT: x, RIGHT: panels_of(weight), START: np.pad(start, (0, 47))}
    got = run_kernel(kernel, inputs, {OUT: ((3, 17), "f4")})[OUT]
    np.testing.assert_array_equal(got, (total - total[0] + left).astype(np.float32))


def test_int8_batches_and_rows_far_apart() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (2, 13, 3, 80), dtype=np.uint8)  # batch dims 0 and 2, broadcast; k is 65 of 80
    weight = rng.integers(-128, 128, (3, 70, 65)).astype(np.int8)
    panels = np.stack([panels_of(w) for w in weight])
    left = Left(LEFT, (13 * 240, 80), (240,), (1,))
    right = Right(RIGHT, (0, 2), packed=True)
    kernel = Contraction("u8s8", (2, 3), (13,), 70, (65,), left, right, START, 0, plain((2, 3, 13, 70)), 1)
    given = {LEFT: x, RIGHT: panels, START: np.zeros(3 * 128, np.int32)}
    got = run_kernel(kernel, given, {OUT: ((2, 3, 13, 70), "f4")})[OUT]
    want = np.einsum("bmhk,hnk->bhmn", x[..., :65].astype(np.int64), weight.astype(np.int64))
    np.testing.assert_array_equal(got, want.astype(np.float32))


@pytest.mark.parametrize("kind", ["u8s8", "f32"])
@pytest.mark.parametrize(("m", "n", "k"), [(0, 5, 7), (3, 0, 7), (0, 0, 0)])
def test_nothing_to_compute(kind: str, m: int, n: int, k: int) -> None:
    right = Right(RIGHT, (), n, kind != "f32")
    kernel = Contraction(kind, (), (m,), n, (k,), Left(LEFT, (), (k,), (1,)), right, START, 0, plain((m, n)), 1)
    empty = np.zeros(0, np.int32)
    run_kernel(kernel, {LEFT: empty, RIGHT: empty, START: empty}, {OUT: ((m, n), "f4")})


@pytest.mark.parametrize("kind", ["u8s8", "f32"])
def test_no_terms_give_zero(kind: str) -> None:
    right = Right(RIGHT, (), 7, kind != "f32")
    kernel = Contraction(kind, (), (5,), 7, (0,), Left(LEFT, (), (0,), (1,)), right, START, 0, plain((5, 7)), 1)
    given = {LEFT: np.zeros(0, np.int8), RIGHT: np.zeros(0, np.int8), START: np.zeros(64, np.int32)}
    assert not run_kernel(kernel, given, {OUT: ((5, 7), "f4")})[OUT].any()


# Epilogues: (activation, m, n); float32 in the order written, so that NumPy gives the same bits


@pytest.mark.parametrize(
    ("activation", "m", "n"), [("", 7, 100), ("relu", 13, 65), ("gelu", 24, 130), ("relu", 128, 15), ("", 5, 1)]
)
def test_epilogue_on_the_registers(activation: str, m: int, n: int) -> None:
    x, weight = operands("u8s8", m, n, 64)
    rng = np.random.default_rng(2)
    scale, bias = rng.uniform(1e-5, 1e-4, n).astype(np.float32), rng.normal(size=n).astype(np.float32)
    residual = rng.integers(0, 256, (n, m), dtype=np.uint8)  # read across
    numbers = (np.float32(1 / 0.03), np.float32(100), np.float32(3), np.float32(250))
    e = Expression()
    real = e.call("add", e.call("mul", e.value(), e.load(SCALE, (0, 1))), e.load(BIAS, (0, 1)))
    zero, step = e.const(5.0), e.const(0.01)
    total = e.call("add", real, e.call("dequantize", e.load(OTHER, (1, m), "u8"), step, zero, dtype="f32"))
    if activation:
        total = e.call("gelu", total) if activation == "gelu" else e.call("max", total, e.const(0.0))
    e.store(OUT, (1, m), total)  # transposed
    e.store(OUT2, (n + 3, 1), e.quantize(total, 0, "u8"))  # with gaps
    given = {LEFT: x, RIGHT: panels_of(weight), START: started("u8s8", weight, 9), SCALE: scale, BIAS: bias}
    made = {OUT: ((n, m), "f4"), OUT2: ((m, n + 3), "u1")}
    got = run_kernel(
        int8_kernel("u8s8", m, n, 64, e.build()), {**given, OTHER: residual}, made, params=[("f32", v) for v in numbers]
    )

    want = (
        exact(x, weight, 9).astype(np.float32) * scale + bias + (residual.T.astype(np.float32) - 5) * np.float32(0.01)
    )
    if activation == "relu":
        want = np.maximum(want, 0)
    if activation == "gelu":
        want = torch.nn.functional.gelu(torch.from_numpy(want).double()).numpy()
        assert_near(got[OUT].T, want, 4, np.abs(want).max())
    else:
        np.testing.assert_array_equal(got[OUT].T, want)
    quantized = np.clip(np.rint(want * numbers[0]) + numbers[1], numbers[2], numbers[3]).astype(np.uint8)
    off = np.abs(got[OUT2][:, :n].astype(int) - quantized)
    assert off.max() <= 1
    assert (off > 0).mean() <= (0.001 if activation == "gelu" else 0)
    np.testing.assert_array_equal(got[OUT2][:, n:], unwritten((m, 3), "u1"))
