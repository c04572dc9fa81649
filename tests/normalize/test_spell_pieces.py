"""Pieces are slices, also of a dim whose size varies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import lower86
from tests.models.checks import agree, lower_anyhow, near
from tests.normalize.graphs import Function

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...]]] = {
    "chunk": (lambda x: [part + 1 for part in x.chunk(3, 1)], (9, 6, 3, 12, 7, 8)),
    "split in two": (lambda x: [part * 2 for part in x.split(x.shape[1] // 2, 1)], (8, 2, 30)),
    "split with sizes": (lambda x: [part * 2 for part in x.split([2, x.shape[1] - 3, 1], 1)], (8, 3, 4, 30)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_split_of_a_size_that_varies(name: str) -> None:
    function, lengths = FUNCTIONS[name]
    shape: Any = {1: Dim.AUTO}
    model, first = Function(function), torch.randn(2, lengths[0], 4)
    lowered = lower_anyhow(model, first, dynamic_shapes=((shape,),))
    assert lower86.explain(lowered).foreign == ()
    for length in lengths:
        agree(model, lowered, torch.randn(2, length, 4), compare=near)
