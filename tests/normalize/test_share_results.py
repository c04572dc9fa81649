from __future__ import annotations

from typing import Any

import pytest
import torch

from lower86.graph.text import text_of
from lower86.normalize.share_results import share_results
from tests.normalize.graphs import after, graph_of

X, Y = torch.randn(3, 4), torch.randn(3, 4)

CASES: dict[str, tuple[Any, tuple[str, int]]] = {
    "the same twice": (lambda x, y: (x + y).exp() * (x + y).exp(), ("exp", 1)),
    "numbers of two types": (lambda x, y: (x == 1) ^ (x == True), ("eq", 2)),  # noqa: E712
    "zeros of two signs": (lambda x, y: torch.copysign(x, 0.0) + torch.copysign(x, -0.0), ("copysign", 2)),
    "other operands": (lambda x, y: (x - y) * (y - x), ("sub", 2)),
    "lists": (lambda x, y: torch.cat([x, y]) + torch.cat([x, y]), ("cat", 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_calls(name: str) -> None:
    function, (operator, count) = CASES[name]
    assert after((share_results,), function, X, Y).count(f"{operator}(") == count


def test_random_numbers_are_drawn_again() -> None:
    module = graph_of(lambda x: torch.rand_like(x) - torch.rand_like(x), X)
    share_results(module)
    assert text_of(module).count("rand_like(") == 2
