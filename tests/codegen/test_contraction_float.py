"""Float contractions are those of float64 within rounding; and the panels that both kinds read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.program.kernels import Contraction, Left, Right
from lower86.program.program import Packing
from lower86.program.sizes import Size
from lower86.runtime.packing import ALIGNMENT, float_panels, int8_panels, packed
from tests.codegen.test_contraction import D0, D1, D2, LEFT, OUT, RIGHT, plain
from tests.harness import TARGET, assert_near, run_kernel

FLOAT = [(1, 1, 1), (1, 130, 7), (2, 16, 64), (5, 17, 3), (6, 64, 33), (7, 65, 130), (13, 100, 200), (24, 63, 2)]


@pytest.mark.parametrize("right_packed", [True, False], ids=["packed", "in place"])
@pytest.mark.parametrize("sizes", [*FLOAT, (D0, D1, D2), (D0, 65, D2), (13, D1, 7)], ids=str)
def test_float(sizes: tuple[Size, Size, Size], right_packed: bool) -> None:
    m, n, k = sizes
    right = Right(RIGHT, (), 0 if right_packed else n, right_packed)
    kernel = Contraction("f32", (), (m,), n, (k,), Left(LEFT, (), (k,), (1,)), right, 0, 0, plain((m, n)), 2)
    for given in FLOAT:
        i, j, t = (size if isinstance(size, int) else one for size, one in zip(sizes, given, strict=True))
        rng = np.random.default_rng(i + j)
        a, b = rng.normal(size=(i, t)).astype(np.float32), rng.normal(size=(t, j)).astype(np.float32)
        inputs = {LEFT: a, RIGHT: float_panels(b.T) if right_packed else b}
        got = run_kernel(kernel, inputs, {OUT: ((i, j), "f4")}, dims={"d0": i, "d1": j, "d2": t})[OUT]
        a, b = a.astype(np.float64), b.astype(np.float64)
        assert_near(got, a @ b, 4, np.abs(a) @ np.abs(b))


@pytest.mark.parametrize("m", [9, D0])
def test_float_operands_of_any_strides(m: Size) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 33, 9)).astype(np.float32), rng.normal(size=(4, 33, 80)).astype(np.float32)
    left = Left(LEFT, (m * 33, 0), (1,), (m,))  # (k, m) read across; the second batch dim is broadcast
    right = Right(RIGHT, (0, 33 * 80), 80)
    kernel = Contraction("f32", (2, 4), (m,), 70, (33,), left, right, 0, 0, plain((2, 4, m, 70)), 1)
    got = run_kernel(kernel, {LEFT: a, RIGHT: b}, {OUT: ((2, 4, 9, 70), "f4")}, dims={"d0": 9})[OUT]
    one, two = a.astype(np.float64)[:, None].swapaxes(2, 3), b.astype(np.float64)[None, :, :, :70]
    assert_near(got, one @ two, 4, np.abs(one) @ np.abs(two))


def test_float_infinities_and_nan_stay_in_their_rows() -> None:
    a, b = np.ones((7, 5), np.float32), np.ones((5, 70), np.float32)
    a[2, 3], a[4, 0], b[1, 69] = np.nan, np.inf, -np.inf
    kernel = Contraction(
        "f32", (), (7,), 70, (5,), Left(LEFT, (), (5,), (1,)), Right(RIGHT, (), 70), 0, 0, plain((7, 70)), 1
    )
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run_kernel(kernel, {LEFT: a, RIGHT: b}, {OUT: ((7, 70), "f4")})[OUT], a @ b)


@pytest.mark.parametrize("word", [2, 4])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (64, 4), (65, 5), (130, 63)])
def test_panels(n: int, k: int, word: int) -> None:
    weight = np.arange(n * k).reshape(n, k).astype(np.int8)
    bytes_, floats = int8_panels(weight, word), float_panels(weight.astype(np.float32))
    assert bytes_.shape == (-(-n // 64), -(-k // word), 64, word)
    assert floats.shape == (-(-n // 64), k, 64)
    for column, row in itertools.product(range(bytes_.shape[0] * 64), range(bytes_.shape[1] * word)):
        inside = column < n and row < k
        assert bytes_[column // 64, row // word, column % 64, row % word] == (weight[column, row] if inside else 0)
        if row < k:
            assert floats[column // 64, row, column % 64] == (weight[column, row] if inside else 0)


def test_packed_constants_are_aligned() -> None:
    constants = [np.ones((3, 5), np.int8), np.asarray(np.float32(3)), np.ones((0, 4)), np.ones(7)]
    kinds = ("int8_panels", "none", "none", "none")
    made = packed(constants, [Packing(k) for k in kinds], ISAS[TARGET.level])
    for data, constant in zip(made, constants, strict=True):
        assert data.ctypes.data % ALIGNMENT == 0
        assert data.size >= max(1, constant.nbytes)
    assert data.view(np.float64).tolist() == [1.0] * 7
