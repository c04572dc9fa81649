"""Which lookups are movement: those where every operand counts through its dim."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import lower86
from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models.checks import near
from tests.normalize.graphs import graph_of

X, CUBE = torch.randn(3, 5), torch.randn(3, 5, 2)


def rows(n: int = 3) -> Tensor:
    return torch.arange(n)


CASES: dict[str, tuple[Any, Tensor, bool]] = {
    "both dims": (lambda x: x[rows()[:, None, None], rows(5)], X, True),
    "the first of three": (lambda x: x[rows()[:, None]], CUBE, True),
    "two of three": (lambda x: x[rows()[:, None, None], rows(5)[None, :]], CUBE, True),
    "the other order": (lambda x: x[rows()[None, :], rows(5)[:, None]], X, False),
    "one dim for both": (lambda x: x[:, :3][rows(), rows()], X, False),
    "not all rows": (lambda x: x[rows(2)[:, None], rows(5)], X, False),
    "backwards": (lambda x: x[rows().flip(0)[:, None], rows(5)], X, False),
    "from one on": (lambda x: x[(rows(2) + 1)[:, None], rows(5)], X[:2].repeat(2, 1), False),
    "a mask": (lambda x: x[rows() >= 0], X, False),
}


@pytest.mark.parametrize("name", CASES)
def test_lookups(name: str) -> None:
    function, x, is_movement = CASES[name]
    module = graph_of(function, x)
    expected = module(x)
    normalize(module)
    module.recompile()
    near(module(x), expected)
    assert ("index(" in text_of(module)) is not is_movement


def test_positions_of_sizes_known_at_run_time() -> None:
    class Lookup(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            batch, length = (torch.arange(size) for size in x.shape)
            every = (length + 0)[None, None, :, None] >= 0
            return every & x[batch[:, None, None, None], length[None, None, None, :]]

    dims = {0: Dim("batch", max=8), 1: Dim("length", max=64)}
    lowered = lower86.lower_pt2e_quantized_to_x86(
        Lookup(), (torch.rand(2, 7) < 0.5,), dynamic_shapes={"x": dims}, on_fallback="ignore"
    )
    for shape in ((1, 1), (3, 5), (8, 64), (2, 0)):
        x = torch.rand(*shape) < 0.5
        assert torch.equal(lowered(x), Lookup()(x))
        assert torch.equal(lowered.run_reference(x), Lookup()(x))
    assert "index(" not in text_of(lowered)
    assert "ge(" not in text_of(lowered)  # no position is below 0
