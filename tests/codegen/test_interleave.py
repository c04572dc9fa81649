"""A few channels side by side: every width, every dtype, nothing beyond."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.program.kernels import Interleave
from tests.codegen.expressions import Expression
from tests.harness import run_kernel


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 33])
def test_channels_come_last(channels: int, width: int) -> None:
    x = np.random.default_rng(width).standard_normal((3, channels, width)).astype(np.float32) * 9
    e = Expression()
    value = e.load(0, (channels * width, 1, width))
    e.store(1, (width * channels, channels, 1), e.call("add", value, value))
    e.store(2, (width * channels, channels, 1), e.call("gt", value, e.const(0.0), dtype="bool"))
    kernel = Interleave((3, width, channels), e.build(), 2)
    shape = (3, width, channels)
    got = run_kernel(kernel, {0: x}, {1: (shape, "f4"), 2: (shape, "bool")})
    np.testing.assert_array_equal(got[1], 2 * x.transpose(0, 2, 1))
    np.testing.assert_array_equal(got[2], x.transpose(0, 2, 1) > 0)


def test_bytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 50), dtype=np.uint8)
    e = Expression()
    e.store(1, (3 * 50, 3, 1), e.load(0, (150, 1, 50), "u8"))
    got = run_kernel(Interleave((2, 50, 3), e.build(), 1), {0: x}, {1: ((2, 50, 3), "u1")})[1]
    np.testing.assert_array_equal(got, x.transpose(0, 2, 1))
