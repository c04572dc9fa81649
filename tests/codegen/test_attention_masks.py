"""Masks of attention: added or chosen by, broadcast, by query or by key; and rows that have no key left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lower86.program.sizes import Size, contiguous_strides
from tests.codegen.expressions import Expression
from tests.codegen.test_attention import MASK, Case
from tests.harness import Array

MASKS = [(2, 2, 70, 90), (1, 1, 1, 90), (2, 1, 1, 90), (1, 1, 70, 1), (1, 2, 70, 90), (2, 1, 70, 90)]

"""Broadcast to (batch, heads, queries, keys)."""


def masked(dtype: str, strides: tuple[Size, ...]) -> dict[str, Any]:
    e = Expression()
    return {"mask_node": e.load(MASK, strides, dtype), "mask": e.build()}


def mask_of(shape: tuple[int, ...], dtype: str) -> Array:
    keep = np.random.default_rng(3).random(shape) < 0.6
    if dtype == "bool":
        return keep
    return np.where(keep, np.random.default_rng(4).normal(size=shape), -np.inf).astype(np.float32)


@pytest.mark.parametrize(("together", "dynamic", "causal"), [(False, True, False), (True, False, True)])
@pytest.mark.parametrize("dtype", ["bool", "f32"])
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_masks(shape: tuple[int, ...], dtype: str, together: bool, dynamic: bool, causal: bool) -> None:
    case = Case.random(70, 90, 32, 32, batch=2)
    mask = mask_of(shape, dtype)
    laid = mask.swapaxes(2, 3) if together else mask
    steps = contiguous_strides(laid.shape)
    steps = (*steps[:2], steps[3], steps[2]) if together else steps
    strides = tuple(0 if size == 1 else step for size, step in zip(shape, steps, strict=True))
    kernel = case.kernel(dynamic=dynamic, causal=causal, **masked(dtype, strides))
    case.check(case.run(kernel, np.ascontiguousarray(laid)), mask, causal)


@pytest.mark.parametrize("dtype", ["bool", "f32"])
def test_rows_with_no_key_are_zero(dtype: str) -> None:
    case = Case.random(70, 130, 16, 16)
    keep = np.ones((70, 130), bool)
    keep[3], keep[5, 64:], keep[7, :64], keep[65], keep[9, :129] = False, False, False, False, False
    mask = keep if dtype == "bool" else np.where(keep, 0, -np.inf).astype(np.float32)
    got = case.run(case.kernel(**masked(dtype, (0, 0, 130, 1))), mask)
    case.check(got, mask)
    assert not got[:, :, [3, 65]].any()


def test_mask_may_be_any_expression() -> None:
    """A window of 9 keys around the query, as an additive mask computed from the indices."""
    case = Case.random(70, 70, 16, 16)
    e = Expression()
    near = e.call("le", e.call("abs", e.call("sub", e.index(2), e.index(3))), e.const(4, "i64"), dtype="bool")
    node = e.call("select", near, e.const(0.0), e.const(-np.inf), dtype="f32")
    got = case.run(case.kernel(mask=e.build(), mask_node=node))
    distance = np.abs(np.arange(70)[:, None] - np.arange(70))
    case.check(got, distance <= 4)
