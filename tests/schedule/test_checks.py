"""What a dynamic model relies on between its sizes is checked at every call: no wrong branch, no stray read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import lower86
from lower86.lowered import LoweredModule
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
    "a row of what is part of a whole": (
        lambda x, y: torch.cat([y[:1] * 2, x * 1.5, (x * 1.5)[:1]]), [(6, 3), (1, 1)], [(0, 3)],
    ),
    "the last row of what is part of a whole": (
        lambda x, y: torch.cat([y[:1] * 2, x * 1.5, (x * 1.5)[-1:]]), [(6, 3), (1, 1)], [(0, 3)],
    ),
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


class Attending(nn.Module):
    """Attention with two lengths, and a mask that says which keys are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor, y: Tensor, padding: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, y, y, key_padding_mask=padding, need_weights=False)[0]
        return attended


def test_one_row_of_one_token_is_no_special_case_of_attention() -> None:
    torch.manual_seed(0)

    def inputs(rows: int, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
        padding = torch.arange(keys) > torch.arange(keys - 1, keys - 1 + rows)[:, None] % keys
        return torch.randn(rows, queries, 16), torch.randn(rows, keys, 16), padding

    model = Attending().eval()
    dynamic = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in ("x", "y", "padding")}
    lowered = lower_anyhow(model, *inputs(3, 5, 7), dynamic_shapes=dynamic)
    for sizes in ((3, 5, 7), (1, 5, 7), (3, 1, 7), (3, 5, 1), (1, 1, 1), (2, 1, 2), (4, 9, 3)):
        agree(model, lowered, *inputs(*sizes), compare=near)
    x, y, padding = inputs(3, 5, 7)
    with pytest.raises(lower86.InputError, match="takes only inputs with"):
        lowered(x, y[:2], padding)
    with pytest.raises(lower86.InputError, match=r"padding has shape \[3, 6\].*y_1 = 7 by x, y"):
        lowered(x, y, padding[:, :6])


def lower_again(model: nn.Module, *inputs: Tensor, dynamic_shapes: Any) -> LoweredModule:
    """Lowers a graph that has been exported before, as quantized ones have: its bounds are not all the caller's."""
    first = torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    return lower_anyhow(first.module(check_guards=False), *inputs)


class Strided(nn.Module):
    """Every other position of a sequence, normed: layouts ask whether one is left."""

    def __init__(self) -> None:
        super().__init__()
        self.strided, self.norm, self.linear = nn.Conv1d(8, 8, 3, 2, 1), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        halved = self.strided(x).transpose(1, 2)
        projected: Tensor = self.linear(self.norm(halved))
        return (halved + projected).transpose(1, 2)


def test_what_layouts_ask_of_a_size_computed_from_a_dim_bounds_no_dim() -> None:
    torch.manual_seed(0)
    model = Strided().eval()
    shape: Any = {2: Dim.AUTO(max=40)}
    lowered = lower_again(model, torch.randn(2, 8, 12), dynamic_shapes=(shape,))
    for length in (12, 1, 2, 3, 40):
        agree(model, lowered, torch.randn(2, 8, length), compare=near)
    with pytest.raises(lower86.InputError, match=r"shape\[2\] is 41, outside its range 0 … 40"):
        lowered(torch.randn(2, 8, 41))


def test_a_least_size_that_the_caller_gave_is_kept() -> None:
    model = Of(lambda x, y: x + 1)
    shape: Any = {0: Dim.AUTO(min=5)}
    lowered = lower_again(model, torch.randn(8, 4), torch.ones(1), dynamic_shapes={"x": shape, "y": None})
    agree(model, lowered, torch.randn(5, 4), torch.ones(1), compare=near)
    with pytest.raises(lower86.InputError, match=r"shape\[0\] is 4, outside its range 5"):
        lowered(torch.randn(4, 4), torch.ones(1))


def test_sizes_that_a_reshape_has_to_divide() -> None:
    model = Of(lambda x, y: x.view(x.shape[0] // 2, 2, 2, 2).reshape(-1, 4, 2).sum(1) + y[:1, :2])
    dynamic = {name: {0: Dim.AUTO} for name in ("x", "y")}
    lowered = lower_again(model, torch.randn(6, 4), torch.randn(3, 4), dynamic_shapes=dynamic)
    for rows in (6, 2, 8):
        agree(model, lowered, torch.randn(rows, 4), torch.randn(3, 4), compare=near)
    with pytest.raises(lower86.InputError, match="takes only inputs with"):
        lowered(torch.randn(7, 4), torch.randn(3, 4))


def test_lowering_asks_nothing_of_sizes_itself() -> None:
    model = Of(lambda x, y: torch.where(torch.ones_like(x @ x.T).triu(1) > 0, y.sum(), x @ x.T))
    dynamic = {name: {0: Dim.AUTO} for name in ("x", "y")}
    lowered = lower_anyhow(model, torch.randn(6, 4), torch.randn(3, 4), dynamic_shapes=dynamic)
    assert lowered.program.checks == ()
    agree(model, lowered, torch.randn(80, 4), torch.randn(3, 4), compare=near)


def test_unshuffling_pixels_of_an_image_whose_sizes_vary() -> None:
    class Unshuffled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pixel_unshuffle(x * 2, 2) + 1

    shape: Any = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
    lowered = lower_again(Unshuffled(), torch.randn(2, 3, 6, 4), dynamic_shapes=(shape,))
    assert lower86.explain(lowered).foreign == ()
    for sizes in ((2, 3, 6, 4), (1, 3, 2, 2), (3, 3, 8, 2)):
        agree(Unshuffled(), lowered, torch.randn(sizes), compare=near)
    with pytest.raises(lower86.InputError, match="takes only inputs with"):
        lowered(torch.randn(2, 3, 5, 4))
