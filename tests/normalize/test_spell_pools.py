"""Pools of floats and of integers, with every option: native, and what PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lower86
from lower86.graph.arguments import is_call
from lower86.graph.qparams import is_quantize
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower_anyhow, near, same
from tests.models.qdq import S8, U8, grid
from tests.normalize.graphs import Function

AUTO = torch.export.Dim.AUTO
MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
ADAPTIVE_MAX = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
ADAPTIVE_AVERAGE = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
SIZES = {1: (12,), 2: (9, 12), 3: (4, 5, 6)}
SOURCES: dict[str, Callable[[Tensor], Tensor]] = {"f32": lambda x: x, "u8": U8, "s8": S8}

MAXIMA: list[dict[str, Any]] = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 1, "stride": 3},
    {"kernel_size": 2, "stride": 1, "dilation": 3}, {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
]  # fmt: skip
UNEVEN = {"kernel_size": (3, 2), "stride": (1, 3), "padding": (1, 0), "dilation": (2, 1)}
AVERAGES: list[dict[str, Any]] = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True, "count_include_pad": False},
]  # fmt: skip
DIVIDED: list[dict[str, Any]] = [
    {"kernel_size": 3, "divisor_override": 5},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "divisor_override": 2},
    {"kernel_size": 3, "padding": 1, "count_include_pad": False, "divisor_override": 7},
]
DIVIDING: dict[int, list[Any]] = {1: [1, 4, 12], 2: [1, 3, (3, 4), (9, 1), (None, 1)], 3: [1, (2, 5, 3)]}
CROSSING: dict[int, list[Any]] = {1: [5], 2: [(2, 5), (3, 5), (11, 12)], 3: [(3, 2, 4)]}
Pool = Callable[[Tensor], Any]
by_case = pytest.mark.parametrize(("dims", "source"), [(1, "s8"), (2, "f32"), (2, "u8"), (3, "f32"), (3, "u8")])


def check(
    pools: list[Pool], *inputs: Tensor, compare: Callable[[Any, Any], None] = near, **options: Any
) -> LoweredModule:
    """The model that gives all of the pools, lowered with the first input, agrees on each, and is native."""
    model = Function(lambda x: [pool(x) for pool in pools])
    lowered = lower_anyhow(model, inputs[0], **options)
    assert lower86.explain(lowered).foreign == ()
    for x in inputs:
        agree(model, lowered, x, compare=compare)
    return lowered


def pools_of(function: Any, options: list[dict[str, Any]], source: str = "f32") -> list[Pool]:
    return [lambda x, given=given: function(SOURCES[source](x), **given) for given in options]


def adaptive(function: Any, sizes: list[Any], source: str = "f32") -> list[Pool]:
    return pools_of(function, [{"output_size": size} for size in sizes], source)


@by_case
def test_largest(dims: int, source: str) -> None:
    options = [*MAXIMA, *([UNEVEN] if dims == 2 else [])]
    check(pools_of(MAX[dims - 1], options, source), grid(2, 5, *SIZES[dims]), compare=same)


@by_case
def test_average(dims: int, source: str) -> None:
    options = [*AVERAGES, *(DIVIDED if dims > 1 else [])]
    check(pools_of(AVERAGE[dims - 1], options, source), grid(2, 5, *SIZES[dims]))


@by_case
def test_adaptive(dims: int, source: str) -> None:
    x = grid(2, 5, *SIZES[dims])
    check(adaptive(ADAPTIVE_AVERAGE[dims - 1], DIVIDING[dims] + CROSSING[dims], source), x)
    check(adaptive(ADAPTIVE_MAX[dims - 1], DIVIDING[dims], source), x, compare=same)


@by_case
def test_without_a_batch(dims: int, source: str) -> None:
    """What stands beside a channel in memory is another, not its padding."""
    pools = [*pools_of(MAX[dims - 1], MAXIMA[::2], source), *pools_of(AVERAGE[dims - 1], AVERAGES[1:3], source)]
    pools += adaptive(ADAPTIVE_AVERAGE[dims - 1], [DIVIDING[dims][1], CROSSING[dims][0]], source)
    check([*pools, *pools_of(MAX[dims - 1], MAXIMA[1:2], source)], grid(9, *SIZES[dims]))


def test_windows_larger_than_x() -> None:
    averages: list[dict[str, Any]] = [{}, {"count_include_pad": False}, {"divisor_override": 7}, {"ceil_mode": True}]
    sizes: list[dict[str, Any]] = [{"kernel_size": 6, "padding": 1}, {"kernel_size": (6, 8), "padding": (1, 3)}]
    x = grid(2, 3, 4, 4)
    check([*pools_of(F.max_pool2d, sizes), *pools_of(F.max_pool2d, sizes, "u8")], x, compare=same)
    check(pools_of(F.avg_pool2d, [{**size, **more} for size in sizes for more in averages]), x)


@pytest.mark.parametrize("channels", [1, 16, 65])
def test_channels(channels: int) -> None:
    pools = [*pools_of(F.max_pool2d, MAXIMA[:2], "u8"), *pools_of(F.max_pool2d, MAXIMA[:2])]
    check([*pools, *pools_of(F.avg_pool2d, AVERAGES[:2], "s8")], grid(2, channels, 9, 12))


def test_an_empty_batch() -> None:
    pools = [*pools_of(F.max_pool2d, MAXIMA[:2], "u8"), *pools_of(F.avg_pool2d, AVERAGES[:3])]
    model, x = Function(lambda x: [pool(x) for pool in pools]), torch.zeros(0, 5, 9, 12)
    agree(model, lower_anyhow(model, x), x)


def test_integers_stay_integers() -> None:
    """A largest integer is one that was there: nothing is quantized again, nor is a float in between."""
    lowered = check([lambda x: U8(F.max_pool2d(U8(x), 3, 2, 1))], grid(2, 5, 9, 12), compare=same)
    nodes = list(lowered.graph.nodes)
    assert [node.meta["val"].dtype for node in nodes if is_call(node, torch.ops.aten.amax.default)] == [torch.uint8]
    assert sum(is_quantize(node) for node in nodes) == 1


def test_pools_of_one_value_with_other_surroundings() -> None:
    """Around what is averaged stand zeros, around what is compared the lowest number."""
    check(
        [
            lambda x: F.max_pool2d(x, 3, 1, 1) - F.avg_pool2d(x, 3, 1, 1),
            lambda x: F.max_pool2d(x, 5, 1, 2) + x,
            lambda x: F.max_pool2d(F.max_pool2d(torch.relu(x), 3, 1, 1), 3, 1, 1),
            lambda x: F.avg_pool2d(U8(x), 3, 1, 1) + F.max_pool2d(U8(x), 3, 1, 1),
        ],
        -1 - grid(2, 5, 6, 7).abs(),
    )


def test_not_a_number_and_infinities() -> None:
    x = torch.randn(2, 3, 9, 12)
    x[0, 0, 4, 5], x[0, 1, 2, 2], x[1, 0, 7, 1], x[1, 2] = torch.nan, torch.inf, -torch.inf, -torch.inf
    check(pools_of(F.max_pool2d, MAXIMA), x, compare=same)
    check([*pools_of(F.avg_pool2d, AVERAGES), *adaptive(F.adaptive_avg_pool2d, DIVIDING[2])], x)


def test_infinities_stay_in_their_windows() -> None:
    x = torch.randn(2, 3, 9, 12)
    x[0, 0, 4, 5], x[1, 2, 0, 0] = torch.inf, torch.nan
    check(adaptive(F.adaptive_avg_pool2d, CROSSING[2]), x)


@pytest.mark.parametrize("kind", ["largest", "average"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_floats(dtype: torch.dtype, kind: str) -> None:
    """Whoever computes them."""
    pools = pools_of(F.max_pool2d, MAXIMA[:2])
    if kind == "average":
        pools = [*pools_of(F.avg_pool2d, AVERAGES[:3]), *adaptive(F.adaptive_avg_pool2d, [1, 3, (2, 5)])]
    model, x = Function(lambda x: [pool(x) for pool in pools]), torch.randint(-9, 9, (2, 3, 9, 12)).to(dtype)
    agree(model, lower_anyhow(model, x), x, compare=torch.testing.assert_close)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_integers_as_they_are(dtype: torch.dtype) -> None:
    check(pools_of(F.max_pool2d, MAXIMA[:3]), torch.randint(0, 99, (2, 3, 9, 12)).to(dtype), compare=same)


@pytest.mark.parametrize("axes", [(0,), (0, 2, 3)], ids=str)
def test_dynamic_sizes(axes: tuple[int, ...]) -> None:
    pools = [*pools_of(F.max_pool2d, MAXIMA[:4], "u8"), *pools_of(F.avg_pool2d, [*AVERAGES[:2], DIVIDED[0]])]
    pools += adaptive(F.adaptive_avg_pool2d, [1])
    if axes == (0,):
        pools += [*pools_of(F.max_pool2d, MAXIMA[4:]), *pools_of(F.avg_pool2d, AVERAGES[2:])]
        pools += adaptive(F.adaptive_avg_pool2d, DIVIDING[2][1:] + CROSSING[2])
    shapes = [(2, 9, 12), (1, 7, 5), (0, 8, 8), (3, 20, 6)]
    inputs = [grid(n, 5, *(size if 2 in axes else SIZES[2])) for n, *size in shapes]
    check(pools, *inputs, dynamic_shapes=((dict.fromkeys(axes, AUTO),),))


def test_indices_are_pytorchs() -> None:
    model, x = Function(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)), torch.randn(2, 3, 9, 12)
    agree(model, lower_anyhow(model, x), x)
