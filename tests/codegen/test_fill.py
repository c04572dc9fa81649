"""Halos: exactly what lies around the inside of a buffer is filled, whatever the paddings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lower86.program.kernels import Fill
from lower86.program.sizes import Size, product
from lower86.schedule.memory import borders
from tests.codegen.test_contraction import D0, D1, D2
from tests.harness import Array, run_kernel, unwritten

VALUES = {"u8": ("u1", 7.0), "i8": ("i1", -9.0), "f32": ("f4", -np.inf)}
PADS = [(low, high) for low in range(3) for high in range(3)]
Pads = tuple[tuple[int, int], ...]


def kernel_of(shape: tuple[Size, ...], pads: Pads, dtype: str) -> Fill:
    return Fill(0, dtype, product(shape), borders(shape, [low for low, _ in pads], [high for _, high in pads]))


def expected(shape: tuple[int, ...], pads: Pads, dtype: str) -> Array:
    numpy_dtype, value = VALUES[dtype]
    whole = np.full(shape, value, numpy_dtype)
    inside = tuple(slice(low, size - high) for (low, high), size in zip(pads, shape, strict=True))
    whole[inside] = unwritten(whole[inside].shape, numpy_dtype)
    return whole


def check(kernel: Fill, shape: tuple[int, ...], pads: Pads, **dims: int) -> None:
    dtype, value = VALUES[kernel.dtype]
    got = run_kernel(kernel, {}, {0: (shape, dtype)}, dims=dims, params=[(kernel.dtype, value)])[0]
    np.testing.assert_array_equal(got, expected(shape, pads, kernel.dtype))


def shape_of(pads: Pads, least: int = 1) -> tuple[int, ...]:
    """A batch of 2, the padded spatial dims around insides of different sizes, 3 channels."""
    return (2, *(low + high + least + i for i, (low, high) in enumerate(pads)), 3)


@pytest.mark.parametrize("first", PADS, ids=str)
def test_paddings_of_one_dim_and_two(first: tuple[int, int]) -> None:
    for number, rest in enumerate([(), *((pad,) for pad in PADS)]):
        if any(map(any, (first, *rest))):
            shape, pads = shape_of((first, *rest), 1 + number % 4), ((0, 0), first, *rest, (0, 0))
            check(kernel_of(shape, pads, list(VALUES)[number % 3]), shape, pads)


def test_paddings_of_three_dims() -> None:
    for number, spatial in enumerate(itertools.product(PADS, repeat=3)):
        if not any(map(any, spatial)):
            continue
        shape, pads = shape_of(spatial), ((0, 0), *spatial, (0, 0))
        kernel = kernel_of(shape, pads, list(VALUES)[number % 3])
        if number % 13 == 0:
            check(kernel, shape, pads)
            continue
        numbers = unwritten(shape, VALUES[kernel.dtype][0]).reshape(-1)
        for band in kernel.bands:
            places = np.asarray(band.offset)
            for size, stride in zip(band.shape, (*band.strides, 1), strict=True):
                places = places[..., None] + np.arange(size) * np.asarray(stride)
            numbers[places] = VALUES[kernel.dtype][1]
        np.testing.assert_array_equal(numbers.reshape(shape), expected(shape, pads, kernel.dtype))


@pytest.mark.parametrize(
    "pads", [((1, 2), (0, 0), (2, 0)), ((0, 0), (0, 2), (1, 1)), ((2, 2), (1, 0), (0, 1))], ids=str
)
def test_paddings_of_outermost_and_innermost_dims(pads: Pads) -> None:
    shape = tuple(low + high + 17 * (i + 1) for i, (low, high) in enumerate(pads))
    check(kernel_of(shape, pads, "u8"), shape, pads)


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("spatial", [((1, 1), (1, 1)), ((0, 2), (1, 0)), ((2, 0), (0, 0)), ((0, 0), (0, 1))], ids=str)
def test_sizes_known_only_when_it_runs(spatial: Pads, dtype: str) -> None:
    pads = ((0, 0), *spatial, (0, 0))
    top, left = (sum(pad) for pad in spatial)
    kernel = kernel_of((D0, D1 + top, D2 + left, 5), pads, dtype)
    for batch, height, width in ((1, 1, 1), (3, 4, 17), (2, 33, 1), (0, 4, 4)):
        shape = (batch, height + top, width + left, 5)
        check(kernel, shape, pads, d0=batch, d1=height, d2=width)


@pytest.mark.parametrize("dtype", VALUES)
def test_an_empty_buffer_is_left_alone(dtype: str) -> None:
    pads = ((0, 0), (1, 1), (2, 1), (0, 0))
    check(kernel_of((0, 5, 6, 3), pads, dtype), (0, 5, 6, 3), pads)
