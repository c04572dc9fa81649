"""Bounds of values that are held in 16 bits."""

from __future__ import annotations

import math

import pytest
import torch

from lower86.schedule.emission import Emission, Space
from lower86.schedule.magnitude import bound_of
from lower86.schedule.memory import computes_nothing
from lower86.schedule.plan import Plan
from lower86.schedule.symbols import DTYPE_NAMES
from lower86.schedule.views import View, contiguous


def emission() -> Emission:
    def nowhere(node: torch.fx.Node) -> View:
        raise AssertionError

    return Emission(Plan(), computes_nothing, nowhere)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_constants(dtype: torch.dtype) -> None:
    e = emission()
    view = contiguous(e.plan.constant(torch.tensor([3.5, -300.0, 0.0], dtype=dtype)), DTYPE_NAMES[dtype], (3,))
    assert bound_of(e, e.load(view, Space.of((3,)))) == 300
    view = contiguous(e.plan.constant(torch.tensor([3.5, math.inf], dtype=dtype)), DTYPE_NAMES[dtype], (2,))
    assert bound_of(e, e.load(view, Space.of((2,)))) == math.inf


def test_rounding_may_overflow() -> None:
    e = emission()
    exact = e.body.add("value", (), "f32", (0,))
    e.integers.add(exact)
    assert bound_of(e, e.rounded(exact, "bf16")) == 2**31
    assert bound_of(e, e.rounded(exact, "f16")) == math.inf
    assert bound_of(e, e.rounded(e.call("tanh", exact), "f16")) == 1
