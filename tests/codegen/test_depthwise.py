"""Depthwise convolutions: exact sums of integers, whatever the channels, taps, strides and sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.program.body import Body
from lower86.program.kernels import Depthwise, Left
from lower86.program.sizes import Size, contiguous_strides, evaluate
from lower86.runtime.packing import depthwise, depthwise_windows
from tests.codegen.expressions import Expression, stored
from tests.codegen.test_contraction import BIAS, D0, D1, D2, LEFT, OTHER, OUT, RIGHT, SCALE, START
from tests.codegen.test_convolution import furthest, random_operands
from tests.harness import TARGET, Array, assert_near, run_kernel, unwritten

INTEGERS = {"u8s8": np.uint8, "s8s8": np.int8}
KINDS = (*INTEGERS, "f32")
CHANNELS = (1, 15, 16, 17, 64, 65, 130)
TAPS: tuple[tuple[int, ...], ...] = ((3,), (3, 3), (5, 5), (1, 1), (2, 3, 3))
# (stride, dilation) of the last dim: columns are shared between outputs, or not.
STEPS = ((1, 1), (2, 1), (1, 2), (3, 2), (4, 2), (2, 3))


class Case:
    """A kernel over channels-last images that are just large enough for its outputs."""

    def __init__(
        self,
        kind: str,
        channels: int,
        taps: tuple[int, ...],
        out: Sequence[Size],
        step: tuple[int, int] = (1, 1),
        *,
        batch: Size = 2,
        gap: int = 0,
        rows: int = 2,
        body: Body | None = None,
    ) -> None:
        stride, dilation = step
        inputs = [(o - 1) * stride + (t - 1) * dilation + 1 for o, t in zip(out, taps, strict=True)]
        sample, *steps = contiguous_strides((batch, *inputs, channels + gap))[:-1]
        self.m, self.taps = (batch, *out), taps
        left = Left(LEFT, (), (sample, *(s * stride for s in steps)), tuple(s * dilation for s in steps))
        e = Expression()
        body = body or stored(e, e.value(dtype="f32" if kind == "f32" else "i32"), OUT, (*self.m, channels))
        self.kernel = Depthwise(kind, self.m, channels, taps, left, RIGHT, START, body, rows)

    def operands(self, dims: dict[str, int], extreme: bool) -> tuple[Array, Array]:
        """What the strides reach, to the last byte, and weights [channels, taps]."""
        kind, channels = self.kernel.kind, self.kernel.channels
        rng = np.random.default_rng(channels)
        sizes, strides = (*self.m, *self.taps), (*self.kernel.left.m, *self.kernel.left.k)
        apart = [(evaluate(n, dims) - 1) * evaluate(stride, dims) for n, stride in zip(sizes, strides, strict=True)]
        length, shape = (channels + sum(apart)) * (min(apart) >= 0), (channels, int(np.prod(self.taps)))
        x, weight = random_operands(rng, kind, length, shape)
        if extreme and kind != "f32":
            x[...], weight[::2] = furthest(kind), -128
        return x, weight

    def product(self, x: Array, weight: Array, dims: dict[str, int]) -> Array:
        """The sums, [m…, channels], in int64 or float64."""
        wide = x.astype(np.float64 if x.dtype == np.float32 else np.int64)
        shape = [evaluate(n, dims) for n in (*self.m, self.kernel.channels, *self.taps)]
        strides = [8 * evaluate(s, dims) for s in (*self.kernel.left.m, 1, *self.kernel.left.k)]
        windows = np.lib.stride_tricks.as_strided(wide, shape, strides)
        result: Array = (windows * weight.reshape(-1, *self.taps)).sum(tuple(range(len(self.m) + 1, len(shape))))
        return result

    def check(self, extreme: bool = False, zero_point: int = 0, **dims: int) -> None:
        x, weight = self.operands(dims, extreme)
        shape = [evaluate(n, dims) for n in (*self.m, self.kernel.channels)]
        if self.kernel.kind == "f32":
            got = run_kernel(
                self.kernel, {LEFT: x, RIGHT: packed(self.kernel, weight)}, {OUT: (shape, "f4")}, dims=dims
            )[OUT]
            assert_near(got, self.product(x, weight, dims), 4, self.product(np.abs(x), np.abs(weight), dims))
            return
        shift = 128 if self.kernel.kind == "s8s8" else 0
        inputs = {LEFT: x, RIGHT: packed(self.kernel, weight), START: started(weight, zero_point + shift)}
        got = run_kernel(self.kernel, inputs, {OUT: (shape, "i4")}, dims=dims)[OUT]
        np.testing.assert_array_equal(got, self.product(x.astype(np.int64) - zero_point, weight, dims))


def packed(kernel: Depthwise, weight: Array) -> Array:
    if weight.dtype == np.int8 and ISAS[TARGET.level].wide:
        return depthwise_windows(weight, kernel.taps[-1], kernel.shares_columns)
    return depthwise(weight)


def started(weight: Array, zero_point: int) -> Array:
    start = -zero_point * weight.sum(1, dtype=np.int32)
    return np.pad(start, (0, -start.size % 16))


SHAPES = [
    (kind, CHANNELS[(3 * i + j) % 7], taps, STEPS[(i + j + 3 * half) % 6])
    for (i, kind), (j, taps), half in itertools.product(enumerate(KINDS), enumerate(TAPS), range(2))
]


@pytest.mark.parametrize(("kind", "channels", "taps", "step"), SHAPES)
def test_taps_and_steps(kind: str, channels: int, taps: tuple[int, ...], step: tuple[int, int]) -> None:
    width = 1 + (channels + step[0]) % 9
    case = Case(kind, channels, taps, [*range(3, 2 + len(taps)), width], step, gap=channels % 3, rows=1 + channels % 4)
    case.check(zero_point=113)
    case.check(True, 255 if kind == "u8s8" else 127)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_channels(kind: str, channels: int) -> None:
    Case(kind, channels, (3, 3), (2, 5)).check(True, -128 if kind == "s8s8" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
def test_sizes_known_only_when_it_runs(kind: str, step: tuple[int, int]) -> None:
    case = Case(kind, 17, (2, 3), (D0, D1), step, batch=D2)
    for width in range(10):
        case.check(d0=3, d1=width, d2=2, zero_point=7)
    case.check(d0=0, d1=5, d2=1)
    case.check(d0=1, d1=1, d2=0)


@pytest.mark.parametrize("kind", KINDS)
def test_many_taps(kind: str) -> None:
    Case(kind, 18, (7, 9), (1, 6)).check(True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taps", [(0,), (2, 0), (0, 2)])
def test_no_taps(kind: str, taps: tuple[int, ...]) -> None:
    """As in phases of a transposed convolution whose stride is larger than its kernel."""
    case = Case(kind, 67, taps, [2] * len(taps))
    x, weight = np.zeros(0, INTEGERS.get(kind, np.float32)), np.zeros((67, 0), np.float32 if kind == "f32" else np.int8)
    start = np.pad(np.arange(67, dtype=np.int32), (0, 13))
    inputs = {LEFT: x, RIGHT: packed(case.kernel, weight)} | ({} if kind == "f32" else {START: start})
    shape = (*case.m, 67)
    got = run_kernel(case.kernel, inputs, {OUT: (shape, "f4" if kind == "f32" else "i4")})[OUT]
    np.testing.assert_array_equal(got, np.broadcast_to(0 if kind == "f32" else start[:67], shape))


@pytest.mark.parametrize("kind", ["u8s8", "s8s8"])
def test_epilogue(kind: str) -> None:
    """Scale and bias a channel, a residual that lies channels first, a store with a halo."""
    e = Expression()
    real = e.call("add", e.call("mul", e.value(), e.load(SCALE, (0, 0, 0, 1))), e.load(BIAS, (0, 0, 0, 1)))
    real = e.call("add", real, e.load(OTHER, (67 * 35, 7, 1, 35)))
    e.store(OUT, (7 * 9 * 67, 9 * 67, 67, 1), e.quantize(real, 0, "i8"))
    case = Case(kind, 67, (3, 3), (5, 7), body=e.build())
    x, weight = case.operands({}, False)
    rng = np.random.default_rng(1)
    scale, bias = rng.uniform(1e-4, 1e-3, 67).astype(np.float32), rng.normal(size=67).astype(np.float32)
    residual = rng.normal(size=(2, 67, 5, 7)).astype(np.float32)
    inputs = {
        LEFT: x,
        RIGHT: packed(case.kernel, weight),
        START: started(weight, 3 + (128 if kind == "s8s8" else 0)),
        SCALE: scale,
        BIAS: bias,
        OTHER: residual,
    }
    numbers = (np.float32(2.0), np.float32(-20), np.float32(-100), np.float32(90))
    made = run_kernel(case.kernel, inputs, {OUT: ((2, 7, 9, 67), "i1")}, params=[("f32", v) for v in numbers])[OUT]
    sums = case.product(x.astype(np.int64) - 3, weight, {}).astype(np.float32)
    real_ = sums * scale + bias + residual.transpose(0, 2, 3, 1)
    want = unwritten((2, 7, 9, 67), "i1")
    want[:, :5, :7] = np.clip(np.rint(real_ * numbers[0]) + numbers[1], numbers[2], numbers[3])
    np.testing.assert_array_equal(made, want)
