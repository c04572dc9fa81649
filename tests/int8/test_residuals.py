"""Residual additions: wherever the other operand comes from, it is read and never written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.checks import agree, lower, lower_anyhow
from tests.models.qdq import Linear, Scale, grid

OUT = Scale(2.0**-3, 100)


class Residuals(nn.Module):
    """`linear(x)` joined with something by `join(linear's result, x, y, parameter)`, each join with its own linear."""

    def __init__(self, joins: dict[str, Any], n: int = 12, k: int = 20) -> None:
        super().__init__()
        self.joins = list(joins.values())
        self.linears = nn.ModuleList(Linear(k, n) for _ in joins)
        self.parameter = nn.Parameter(grid(n))

    def forward(self, x: Tensor, y: Tensor) -> list[Any]:
        return [join(self.linears[i](x), x, y, self.parameter) for i, join in enumerate(self.joins)]


JOINS: dict[str, dict[str, Any]] = {
    "sums": {
        "with an input": lambda a, x, y, p: a + y,
        "with an input, then relu": lambda a, x, y, p: torch.relu(y + a),
        "with a parameter": lambda a, x, y, p: a + p,
        "with a scalar": lambda a, x, y, p: a + 1.5,
        "with itself": lambda a, x, y, p: a + a,
        "with itself, then relu": lambda a, x, y, p: torch.relu(a + a) * a,
    },
    "in place": {
        "once": lambda a, x, y, p: a.add_(y),
        "thrice": lambda a, x, y, p: a.add_(y).mul_(2).relu_(),
        "into a copy of the input": lambda a, x, y, p: y.clone().add_(a),
    },
    "alpha": {
        "on the other": lambda a, x, y, p: torch.add(a, y, alpha=2),
        "on the linear": lambda a, x, y, p: torch.add(y, a, alpha=-0.5),
        "of sub": lambda a, x, y, p: torch.sub(a, y, alpha=4),
        "of rsub": lambda a, x, y, p: torch.rsub(a, y, alpha=2),
    },
    "strides": {
        "expanded row": lambda a, x, y, p: a + y[:1].expand(6, 12),
        "expanded column": lambda a, x, y, p: a + y[:, :1].expand(6, 12),
        "broadcast": lambda a, x, y, p: a + y[0],
        "transposed": lambda a, x, y, p: a + y.reshape(12, 6).t(),
        "every other": lambda a, x, y, p: a + torch.cat([y, y], 1)[:, ::2],
        "flipped": lambda a, x, y, p: a + y.flip(0),
    },
    "readers": {
        "also returned": lambda a, x, y, p: (a, a + y, y),
        "used later": lambda a, x, y, p: (a + y) * y - a,
        "quantized": lambda a, x, y, p: OUT(a + OUT(y)),
        "quantized twice": lambda a, x, y, p: OUT(OUT(a) + OUT(y)),
    },
}


@pytest.mark.parametrize("group", JOINS)
def test_residuals(group: str) -> None:
    model = Residuals(JOINS[group])
    x, y = grid(6, 20), grid(6, 12)
    agree(model, lower_anyhow(model, x, y), x, y)


class Twice(nn.Module):
    """x + linear(relu(linear(x))): the case in which PyTorch's lowering writes into its caller's input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(16, 24), Linear(24, 16, x=Scale(2.0**-2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


def test_the_input_survives_a_residual_block() -> None:
    model, x = Twice(), grid(5, 16)
    lowered = lower(model, x)
    agree(model, lowered, x)
    agree(model, lowered, grid(10, 16)[::2])
    assert len(lowered.program.steps) == 3  # quantize; linear, relu, quantize; linear, sum


def test_a_residual_of_another_rank() -> None:
    model = Residuals({"sum": lambda a, x, y, p: a + y})
    x, y = grid(2, 3, 20), grid(3, 12)
    agree(model, lower(model, x, y), x, y)
