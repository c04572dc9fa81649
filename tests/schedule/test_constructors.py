"""Tensors made of indices and numbers: of fixed shapes, and of sizes that are known at the call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from lower86.lowered import LoweredModule
from tests.schedule.operators import check, exported, lowered
from tests.schedule.values import tensor

A = torch.ops.aten


def test_filled() -> None:
    x = torch.randn(3, 17)
    for value in (2.5, float("inf"), float("nan"), -0.0):
        check(A.full_like.default, x, value)
    for dtype in (torch.float32, torch.int64, torch.uint8, torch.bool):
        check(A.new_full.default, x, [2, 3], 1, dtype=dtype)
        check(A.new_ones.default, x, [2, 0], dtype=dtype)
        check(A.zeros_like.default, x, dtype=dtype)
    check(A.fill.Tensor, x, torch.tensor(7))


@pytest.mark.parametrize("diagonal", [-9, -2, -1, 0, 1, 3, 9])
def test_triangles(diagonal: int) -> None:
    for operator in (A.tril.default, A.triu.default):
        check(operator, tensor((5, 4), torch.float32), diagonal)
        check(operator, tensor((2, 3, 17), torch.int32), diagonal)
        check(operator, tensor((4, 4), torch.bool).T, diagonal)


def test_ranges() -> None:
    for args in ((2, 40, 3), (5, -6, -2), (0, 0)):
        module, _ = lowered(A.arange.start_step, *args)
        assert torch.equal(module()[0], torch.arange(*args))


class Model(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def dynamic(function: Callable[[Tensor], Tensor]) -> LoweredModule:
    """`function` of rows whose number is known at the call."""
    module = exported(Model(function), [torch.randn(5, 6)], dynamic_shapes=({0: Dim("rows", min=4)},))
    assert module.explanation.foreign == ()
    return module


OF_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "arange": lambda x: x[:, 0] + torch.arange(x.shape[0]),
    "arange of floats": lambda x: torch.arange(3, 3 + 2 * x.shape[0], 2, dtype=torch.float32) * 0.5,
    "full": lambda x: torch.full((x.shape[0], 3), 2.0),
    "full of a size": lambda x: torch.full((2, 2), x.shape[0]),
    "eye": lambda x: torch.eye(x.shape[0]),
    "causal mask": lambda x: torch.ones(x.shape[0], x.shape[0]).tril(),
    "times a size": lambda x: x * x.shape[0] + (x.shape[0] > torch.arange(6)),
    "the last row": lambda x: x[-1],
    "the first row": lambda x: x[0] + x[1:].sum(0),
    "all but two": lambda x: x[:-2] * 2,
    "the last three": lambda x: x[-3:] + 1,
    "flip": lambda x: x.flip(0, 1),
    "repeat": lambda x: x.repeat(2, 3),
    "tile": lambda x: x.tile(2),
    "pad": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 0), value=1.5),
    "mean and variance": lambda x: x.mean(0) + x.var(0),
    "argmax": lambda x: x.argmax(0) + x.argmax(),
    "cumsum": lambda x: x.cumsum(0),
    "unfold": lambda x: x.unfold(1, 3, 2).sum(-1) @ torch.ones(2, 2),
    "group norm": lambda x: torch.nn.functional.group_norm(x[:, :, None], 2)[:, :, 0],
}


@pytest.mark.parametrize("name", OF_ROWS)
def test_sizes_known_at_the_call(name: str) -> None:
    function = OF_ROWS[name]
    module = dynamic(function)
    for rows in (4, 5, 17, 40):
        x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows))
        torch.testing.assert_close(module(x), function(x), rtol=1e-5, atol=1e-5)
