"""What a dynamic model relies on between its sizes is checked at every call: no wrong branch, no stray read."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import lower86
from lower86.program.decode import program_from_json
from tests.models.checks import agree, lower_anyhow, near

Function = Callable[[Tensor, Tensor], Tensor]


class Of(nn.Module):
    """A function of two inputs."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


def _relation(x: Tensor, y: Tensor) -> Tensor:
    torch._check(x.shape[0] > y.shape[0])
    return x[: y.shape[0]] + y


MODELS: dict[str, tuple[Function, list[tuple[int, int]], list[tuple[int, int]]]] = {
    "a slice by another's size": (lambda x, y: x[: y.shape[0]] + y, [(6, 3), (4, 4), (9, 1)], [(3, 5), (3, 50_000)]),
    "the rest": (lambda x, y: x[y.shape[0] :].sum(0), [(6, 3), (8, 2)], [(3, 5)]),
    "a branch on two sizes": (
        lambda x, y: x.sum() + y.sum() if x.shape[0] > y.shape[0] else x.mean(), [(6, 3), (4, 3)], [(3, 6), (4, 4)],
    ),
    "a branch on an odd size": (
        lambda x, y: x * 2 if x.shape[0] % 2 == 0 else x * 3, [(6, 3), (2, 2)], [(7, 3), (1, 1)],
    ),
    "halves": (lambda x, y: x[: x.shape[0] // 2] + x[x.shape[0] // 2 :], [(6, 3), (4, 3), (2, 3)], [(7, 3)]),
    "a split into pairs": (lambda x, y: x.reshape(-1, 2, 4).sum(1), [(6, 3), (12, 3)], [(7, 3)]),
    "a split in front": (lambda x, y: x.view(2, -1, 4).sum(0), [(6, 3), (12, 3)], [(7, 3)]),
    "a branch on an even size": (
        lambda x, y: x * 2 if x.shape[0] % 2 != 0 else x * 3, [(6, 3), (2, 2)], [(7, 3), (1, 1)],
    ),
    "a branch on a difference": (
        lambda x, y: x.sum() if x.shape[0] - y.shape[0] > 0 else y.sum(), [(6, 3), (4, 3)], [(4, 8), (4, 4)],
    ),
    "a branch on equal sizes": (
        lambda x, y: x.sum() if x.shape[0] - y.shape[0] != 0 else y.sum(), [(6, 3), (3, 6)], [(4, 4)],
    ),
    "a branch on a quotient": (
        lambda x, y: x * 2 if x.shape[0] // 4 != 2 else x * 3, [(6, 3), (4, 3)], [(9, 3)],
    ),
    "a branch on a quotient of one": (
        lambda x, y: x * 2 if x.shape[0] // 4 == 1 else x * 3, [(6, 3), (4, 3)], [(9, 3)],
    ),
    "the last row": (lambda x, y: x[-1] + y, [(6, 3), (1, 1)], [(0, 3)]),
    "the last rows": (lambda x, y: x[-1:] + y, [(6, 3), (1, 1)], [(0, 3)]),
    "the second row": (lambda x, y: x[1] + y, [(6, 3), (2, 1)], [(1, 3), (0, 3)]),
    "the first rows": (lambda x, y: x[:2] + 1, [(6, 3), (2, 1)], [(1, 3), (0, 3)]),
    "all but the first rows": (lambda x, y: x[2:] + 1, [(6, 3), (2, 1)], [(1, 3), (0, 3)]),
    "a check of one's own": (_relation, [(6, 3), (4, 3)], [(3, 5), (4, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_sizes_that_fit_each_other_and_sizes_that_do_not(name: str) -> None:
    function, fitting, others = MODELS[name]
    model = Of(function)

    def inputs(sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return torch.randn(sizes[0], 4), torch.randn(sizes[1], 4)

    dynamic = {name: {0: Dim.AUTO} for name in ("x", "y")}
    lowered = lower_anyhow(model, *inputs((6, 3)), dynamic_shapes=dynamic)
    for sizes in fitting:
        agree(model, lowered, *inputs(sizes), compare=near)
    for sizes in others:
        with pytest.raises(lower86.InputError, match=r"takes only inputs with .*shape\[0\]") as caught:
            lowered(*inputs(sizes))
        assert re.search(r"test_checks\.py:\d+: .+, with x\.shape\[0\] = \d+, y\.shape\[0\] = \d+", caught.value.where)
    program = lowered.program
    assert program_from_json(program.to_json(), program.constants) == program


def test_sizes_of_zero_and_one_need_no_checks() -> None:
    model = Of(lambda x, y: torch.cat([x, y]) @ torch.ones(4, 3))
    dynamic = {name: {0: Dim.AUTO} for name in ("x", "y")}
    lowered = lower_anyhow(model, torch.randn(6, 4), torch.randn(3, 4), dynamic_shapes=dynamic)
    assert lowered.program.checks == ()
    for sizes in ((0, 0), (1, 0), (0, 1), (1, 1)):
        agree(model, lowered, torch.randn(sizes[0], 4), torch.randn(sizes[1], 4), compare=near)
