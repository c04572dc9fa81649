"""Residual additions: wherever the other operand comes from, it is read and never written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.models.checks import agree, lower
from tests.models.qdq import Linear, Scale, grid

OUT = Scale(2.0**-3, 100)


class Residual(nn.Module):
    """`linear(x)` joined with something by `join(linear's result, x, y, parameter)`."""

    def __init__(self, join: object, n: int = 12, k: int = 20) -> None:
        super().__init__()
        self.linear, self.join = Linear(k, n), join
        self.parameter = nn.Parameter(grid(n))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.join(self.linear(x), x, y, self.parameter)


JOINS = {
    "sum with an input": lambda a, x, y, p: a + y,
    "sum with an input, then relu": lambda a, x, y, p: torch.relu(y + a),
    "sum with a parameter": lambda a, x, y, p: a + p,
    "in place": lambda a, x, y, p: a.add_(y),
    "in place, twice": lambda a, x, y, p: a.add_(y).mul_(2).relu_(),
    "into a copy of the input": lambda a, x, y, p: y.clone().add_(a),
    "alpha": lambda a, x, y, p: torch.add(a, y, alpha=2),
    "alpha on the linear": lambda a, x, y, p: torch.add(y, a, alpha=-0.5),
    "sub with alpha": lambda a, x, y, p: torch.sub(a, y, alpha=4),
    "rsub": lambda a, x, y, p: torch.rsub(a, y, alpha=2),
    "expanded row": lambda a, x, y, p: a + y[:1].expand(6, 12),
    "expanded column": lambda a, x, y, p: a + y[:, :1].expand(6, 12),
    "broadcast": lambda a, x, y, p: a + y[0],
    "transposed": lambda a, x, y, p: a + y.reshape(12, 6).t(),
    "every other": lambda a, x, y, p: a + torch.cat([y, y], 1)[:, ::2],
    "flipped": lambda a, x, y, p: a + y.flip(0),
    "scalar": lambda a, x, y, p: a + 1.5,
    "itself": lambda a, x, y, p: a + a,
    "itself, then relu": lambda a, x, y, p: torch.relu(a + a) * a,
    "also returned": lambda a, x, y, p: (a, a + y, y),
    "used later": lambda a, x, y, p: (a + y) * y - a,
    "quantized": lambda a, x, y, p: OUT(a + OUT(y)),
    "quantized twice": lambda a, x, y, p: OUT(OUT(a) + OUT(y)),
}
FOREIGN = {"flipped"}


@pytest.mark.parametrize("name", JOINS)
def test_residual(name: str) -> None:
    model = Residual(JOINS[name])
    x, y = grid(6, 20), grid(6, 12)
    lowered = lower(model, x, y, on_fallback="ignore" if name in FOREIGN else "raise")
    agree(model, lowered, x, y)


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


def test_a_residual_of_another_rank() -> None:
    model = Residual(lambda a, x, y, p: a + y)
    x, y = grid(2, 3, 20), grid(3, 12)
    agree(model, lower(model, x, y), x, y)
