"""Contractions over several m and k dims, as convolutions are: rows are output points, k is taps by a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.program.body import Body
from lower86.program.kernels import Contraction, Left, Right
from lower86.program.sizes import Size, contiguous_strides, evaluate
from lower86.runtime.packing import float_panels, int8_panels
from tests.codegen.expressions import Expression
from tests.codegen.test_contraction import BIAS, D0, D1, D2, LEFT, OTHER, OUT, OUT2, RIGHT, SCALE, START, plain
from tests.harness import TARGET, Array, assert_near, run_kernel, unwritten

SLACK = 3
INTEGERS = {"u8s8": np.uint8, "s8s8": np.int8}
KINDS = (*INTEGERS, "f32")


@dataclass(frozen=True)
class Case:
    """Sizes of a kernel, and the strides by which it reads its left operand."""

    groups: tuple[int, ...]
    m: tuple[Size, ...]
    n: int
    k: tuple[int, ...]
    batch_strides: tuple[Size, ...]
    m_strides: tuple[Size, ...]
    k_strides: tuple[Size, ...]

    def at(self, dims: dict[str, int]) -> Case:
        """The case with its dims known."""

        def known(sizes: tuple[Size, ...]) -> tuple[Size, ...]:
            return tuple(evaluate(size, dims) for size in sizes)

        strides = known(self.batch_strides), known(self.m_strides), known(self.k_strides)
        return Case(self.groups, known(self.m), self.n, self.k, *strides)

    def walk(self) -> tuple[list[int], list[int]]:
        """All sizes, and the left operand's strides along them, once they are known."""
        sizes, strides = (*self.groups, *self.m, *self.k), (*self.batch_strides, *self.m_strides, *self.k_strides)
        return [evaluate(size, {}) for size in sizes], [evaluate(stride, {}) for stride in strides]

    @property
    def shape(self) -> tuple[Size, ...]:
        return (*self.groups, *self.m, self.n)

    def kernel(
        self, kind: str, *, slack: bool = False, wide: int = 0, blocks: int = 2, body: Body | None = None
    ) -> Contraction:
        left = Left(LEFT, self.batch_strides, self.m_strides, self.k_strides, slack)
        right = Right(RIGHT, tuple(-(-self.n // 64) for _ in self.groups), packed=True)
        body = body or plain(self.shape)
        return Contraction(kind, self.groups, self.m, self.n, self.k, left, right, START, wide, body, blocks)


def conv(
    channels: int, n: int, taps: Sequence[int], out: Sequence[Size], *, batch: Size = 2, stride: int = 1,
    dilation: int = 1, groups: int = 1,
) -> Case:  # fmt: skip
    """A convolution of channels-last images: outputs `out`, inputs just large enough."""
    inputs = [(o - 1) * stride + (t - 1) * dilation + 1 for o, t in zip(out, taps, strict=True)]
    sample, *steps = contiguous_strides((batch, *inputs, channels * groups))[:-1]
    m_strides, k_strides = tuple(s * stride for s in steps), tuple(s * dilation for s in steps)
    several = (groups,) if groups > 1 else ()
    strides = (channels,) * len(several)
    return Case(several, (batch, *out), n, (*taps, channels), strides, (sample, *m_strides), (*k_strides, 1))


CASES = {
    "1 m dim, taps apart": Case((), (23,), 65, (3, 5), (), (7,), (40, 1)),
    "1 m dim, 1 tap": Case((), (13,), 17, (1, 7), (), (7,), (9, 1)),
    "1-d": conv(6, 17, (3,), (9,)),
    "1-d, dilated": conv(1, 130, (5,), (7,), dilation=2),
    "2-d": conv(3, 64, (3, 3), (5, 7)),
    "2-d, stride 2": conv(5, 65, (3, 2), (4, 3), stride=2),
    "2-d, stride 2, 1 x 1": conv(66, 1, (1, 1), (3, 5), stride=2),
    "2-d, dilated by 3": conv(7, 16, (2, 3), (5, 4), dilation=3, batch=1),
    "3 groups": conv(5, 17, (3, 3), (3, 3), groups=3),
    "2 groups of 65": conv(2, 65, (2, 1), (4, 3), groups=2, batch=3),
    "130 groups of 1": conv(1, 2, (3, 3), (2, 3), groups=130, batch=1),
    "3-d": conv(9, 15, (2, 1, 3), (2, 3, 2)),
    "one row of output": conv(130, 100, (3, 1), (1, 1), batch=1),
    "runs of 3 pixels": Case((), (2, 3, 5), 33, (3, 9), (), (105, 21, 3), (21, 1)),
}


def operands(case: Case, kind: str, slack: bool, extreme: bool) -> tuple[Array, Array]:
    """What the left strides reach, to the last byte (and the slack), and weights [groups, n, taps…, run]."""
    rng = np.random.default_rng(case.n + sum(case.k))
    reach = 1 + sum((size - 1) * stride for size, stride in zip(*case.walk(), strict=True))
    length, shape = reach + SLACK * slack, (case.groups[0] if case.groups else 1, case.n, *case.k)
    x, weight = random_operands(rng, kind, length, shape)
    if extreme and kind != "f32":
        x[...], weight[:, ::2] = furthest(kind), -128
    return x, weight


def random_operands(rng: np.random.Generator, kind: str, length: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """A flat left operand and weights of this shape, over all of their dtypes' range."""
    if kind == "f32":
        return rng.normal(size=length).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    limits = np.iinfo(INTEGERS[kind])
    x = rng.integers(limits.min, limits.max + 1, length).astype(INTEGERS[kind])
    return x, rng.integers(-128, 128, shape).astype(np.int8)


def furthest(kind: str) -> int:
    """The activation that makes the largest sums."""
    return 255 if kind == "u8s8" else -128


def product(case: Case, x: Array, weight: Array) -> Array:
    """The sums of x · weight in int64 or float64, of the case's shape."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.int64)
    sizes, strides = case.walk()
    rows = np.lib.stride_tricks.as_strided(wide, sizes, [8 * stride for stride in strides])
    groups, depth = weight.shape[0], int(np.prod(case.k))
    columns = weight.reshape(groups, case.n, depth).swapaxes(1, 2).astype(wide.dtype)
    result: Array = (rows.reshape(groups, -1, depth) @ columns).reshape([evaluate(size, {}) for size in case.shape])
    return result


def packed(weight: Array) -> Array:
    apart = weight.reshape(*weight.shape[:2], -1, weight.shape[-1])
    return float_panels(apart) if weight.dtype == np.float32 else int8_panels(apart, ISAS[TARGET.level].word)


def started(kind: str, weight: Array, zero_point: int, wide: bool) -> Array:
    """What sums begin with, so that they come out as Σ (x - zero point)·w: each group padded to whole panels."""
    start = -(zero_point + (128 if kind == "s8s8" else 0)) * weight.reshape(*weight.shape[:2], -1).sum(2, np.int64)
    return np.pad(start, ((0, 0), (0, -start.shape[1] % 64))).astype(np.int64 if wide else np.int32)


def check(case: Case, kernel: Contraction, dims: dict[str, int], extreme: bool = False, zero_point: int = 0) -> None:
    kind, known = kernel.kind, case.at(dims)
    x, weight = operands(known, kind, kernel.left.slack, extreme)
    inputs = {LEFT: x, RIGHT: packed(weight)}
    if kind != "f32":
        inputs[START] = started(kind, weight, zero_point, bool(kernel.wide))
    shape = [evaluate(size, dims) for size in case.shape]
    got = run_kernel(kernel, inputs, {OUT: (shape, "f4")}, dims=dims)[OUT]
    if kind == "f32":
        assert_near(got, product(known, x, weight), 4, product(known, np.abs(x), np.abs(weight)))
    else:
        exact = product(known, x.astype(np.int64) - zero_point, weight)
        np.testing.assert_array_equal(got, exact.astype(np.float32))


@pytest.mark.parametrize("slack", [False, True], ids=["to the byte", "slack"])
@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("name", CASES)
def test_int8(name: str, kind: str, slack: bool) -> None:
    kernel = CASES[name].kernel(kind, slack=slack, blocks=1 + len(name) % 3)
    for extreme, zero_point in ((False, 113), (True, 255 if kind == "u8s8" else 127)):
        check(CASES[name], kernel, {}, extreme, zero_point)


@pytest.mark.parametrize("name", CASES)
def test_float(name: str) -> None:
    check(CASES[name], CASES[name].kernel("f32"), {})


@pytest.mark.parametrize("slack", [False, True])
@pytest.mark.parametrize("kind", INTEGERS)
def test_wide_sums_over_taps(kind: str, slack: bool) -> None:
    for case in (conv(70, 17, (3, 2), (3, 3)), conv(130, 65, (2,), (5,)), conv(3, 64, (3, 3), (2, 2), groups=2)):
        check(case, case.kernel(kind, wide=64, slack=slack), {}, True, 3)


DYNAMIC = {
    "batch": conv(3, 17, (3, 3), (4, 5), batch=D0),
    "sizes": conv(5, 65, (3, 2), (D0, D1), stride=2, batch=D2),
    "sizes and groups": conv(6, 17, (3,), (D0,), groups=2, dilation=2, batch=D1),
    "1 x 1": conv(7, 64, (1, 1), (D0, D1), stride=2, batch=D2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DYNAMIC)
def test_sizes_known_only_when_it_runs(name: str, kind: str) -> None:
    kernel = DYNAMIC[name].kernel(kind, slack=kind == "u8s8")
    for sizes in ((1, 1, 1), (2, 3, 1), (7, 5, 2), (13, 1, 3)):
        check(DYNAMIC[name], kernel, dict(zip(("d0", "d1", "d2"), sizes, strict=True)), zero_point=9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", ["d0", "d1", "d2"])
def test_no_outputs_are_no_work(kind: str, empty: str) -> None:
    case, dims = DYNAMIC["sizes"], {"d0": 2, "d1": 2, "d2": 2, empty: 0}
    nothing = np.zeros(0, np.int8)
    run_kernel(case.kernel(kind), {LEFT: nothing, RIGHT: nothing, START: nothing}, {OUT: ((0,), "f4")}, dims=dims)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_epilogue_knows_where_each_row_is(groups: int) -> None:
    """Scale and bias a channel, a residual that lies otherwise, a channels-first store, one with a halo."""
    case = conv(5, 17, (3, 3), (4, 7), groups=groups)
    x, weight = operands(case, "u8s8", False, False)
    rng = np.random.default_rng(5)
    channels = 17 * groups
    scale, bias = rng.uniform(1e-4, 1e-3, channels).astype(np.float32), rng.normal(size=channels).astype(np.float32)
    residual = rng.integers(-128, 128, (2, channels, 7, 4)).astype(np.int8)

    def strides(batch: int, channel: int, row: int, column: int) -> tuple[int, ...]:
        """Of the body's dims: groups, if there are any, then batch, row, column, channel of the group."""
        return (*(17 * channel for _ in case.groups), batch, row, column, channel)

    e = Expression()
    by_channel = strides(0, 1, 0, 0)
    real = e.call("add", e.call("mul", e.value(), e.load(SCALE, by_channel)), e.load(BIAS, by_channel))
    real = e.call("add", real, e.call("cast", e.load(OTHER, strides(28 * channels, 28, 1, 4), "i8"), dtype="f32"))
    e.store(OUT, strides(28 * channels, 28, 7, 1), real)
    e.store(OUT2, strides(6 * 9 * channels, 1, 9 * channels, channels), e.quantize(real, 0, "u8"))
    given = {LEFT: x, RIGHT: packed(weight), START: started("u8s8", weight, 9, False)}
    numbers = (np.float32(0.9), np.float32(100), np.float32(3), np.float32(250))
    got = run_kernel(
        case.kernel("u8s8", body=e.build()), {**given, SCALE: scale, BIAS: bias, OTHER: residual},
        {OUT: ((2, channels, 4, 7), "f4"), OUT2: ((2 * 6 * 9 * channels,), "u1")}, params=[("f32", v) for v in numbers],
    )  # fmt: skip
    sums = product(case, x.astype(np.int64) - 9, weight).reshape(groups, 2, 4, 7, 17)
    sums = sums.transpose(1, 0, 4, 2, 3).reshape(2, channels, 4, 7)
    want = sums.astype(np.float32) * scale[:, None, None] + bias[:, None, None] + residual.swapaxes(2, 3)
    np.testing.assert_array_equal(got[OUT], want)
    quantized = unwritten((2, 6, 9, channels), "u1")
    rounded = np.clip(np.rint(want * numbers[0]) + numbers[1], numbers[2], numbers[3]).astype(np.uint8)
    quantized[:, :4, :7] = rounded.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(got[OUT2].reshape(quantized.shape), quantized)
