"""Rows of quantized bytes that leave as one vector: every width, saturated at either end, nothing written beyond."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.program.body import Body
from tests.codegen.expressions import Expression
from tests.codegen.test_contraction import (
    LEFT,
    OUT,
    RIGHT,
    START,
    exact,
    int8_kernel,
    operands,
    panels_of,
    started,
)
from tests.harness import POISON, run_kernel

OTHER, OUT2 = OUT + 1, OUT + 2
WIDTHS = (1, 7, 16, 17, 24, 31, 32, 33, 40, 47, 48, 50, 63, 64, 65, 81, 100, 127, 128, 144)
ZEROS = {"u8": (0, 7, 255), "i8": (0, -128, 127)}


def body(n: int, dtype: str, zero: int, gap: int, *, known: bool) -> Body:
    """Quantizes the sum and, beside it, the sum and a residual of floats; rows are `gap` bytes apart."""
    e = Expression()
    steps = e.const(zero, "i32") if known else e.param(1, "i32")
    real = e.value()
    e.store(OUT, (n + gap, 1), e.call("quantize_bounded", real, e.param(0), steps, dtype=dtype))
    both = e.call("add", real, e.load(OTHER, (n, 1)))
    e.store(OUT2, (n + gap, 1), e.call("quantize_bounded", both, e.param(0), steps, dtype=dtype))
    return e.build()


@pytest.mark.parametrize("dtype", ZEROS)
@pytest.mark.parametrize("n", WIDTHS)
def test_rows_of_bytes(n: int, dtype: str) -> None:
    m, k, gap = 7, 9, n % 3
    kind = np.dtype({"u8": np.uint8, "i8": np.int8}[dtype])
    span = np.iinfo(kind)
    x, weight = operands("u8s8", m, n, k)
    residual = np.random.default_rng(n).normal(0, 9000, (m, n)).astype(np.float32)
    for number, zero in enumerate(ZEROS[dtype]):
        kernel = int8_kernel("u8s8", m, n, k, body(n, dtype, zero, gap, known=number == 0))
        inverse = np.float32([0.004, 3.0][n % 2])
        inputs = {LEFT: x, RIGHT: panels_of(weight), START: started("u8s8", weight, 99), OTHER: residual}
        places = dict.fromkeys((OUT, OUT2), ((m, n + gap), kind.str))
        got = run_kernel(kernel, inputs, places, params=[("f32", inverse), ("i32", zero)][: 1 + (number > 0)])
        sums = exact(x, weight, 99).astype(np.float32)
        for slot, real in ((OUT, sums), (OUT2, sums + residual)):
            want = np.clip(np.rint(real * inverse).astype(np.float64) + zero, span.min, span.max)
            np.testing.assert_array_equal(got[slot][:, :n], want)
            assert (got[slot][:, n:].view(np.uint8) == POISON).all()
