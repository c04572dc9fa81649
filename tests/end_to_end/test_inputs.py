"""Inputs of every layout and size: strided, expanded, unaligned, empty, with dims that vary between calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower, lower_anyhow, near
from tests.models.qdq import Linear, Scale, grid
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention, Embedding

BATCH = torch.export.Dim("batch")


class Chain(nn.Module):
    """Two exact linears with a relu: the same bits as PyTorch, whatever the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(20, 16), Linear(16, 12, x=Scale(2.0**-1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def chain() -> tuple[nn.Module, LoweredModule]:
    torch.manual_seed(0)
    model = Chain()
    return model, lower(model, grid(6, 20))


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:6, :20],
        lambda t: t[:12:2, :20],
        lambda t: t[:6, 3:43:2],
        lambda t: t[:20, :6].t(),
        lambda t: t[:1, :20].expand(6, 20),
        lambda t: t[:6, :1].expand(6, 20),
        lambda t: t.flatten()[1:121].view(6, 20),
        lambda t: t.as_strided((6, 20), (1, 1), 5),
        lambda t: t[:6, :20].requires_grad_(),
        lambda t: torch.complex(t, -t).conj().imag[:6, :20],
    ],
    ids=[
        "rows", "every other row", "every other column", "transposed", "expanded rows", "expanded columns",
        "unaligned", "overlapping", "requires grad", "negative bit",
    ],
)  # fmt: skip
def test_layouts(chain: tuple[nn.Module, LoweredModule], view: Any) -> None:
    model, lowered = chain
    agree(model, lowered, view(grid(44, 44)))


@pytest.mark.parametrize("shape", [(0, 20), (3, 0, 20), (20,), (1, 20), (1, 1, 1, 20), (2, 0, 3, 20)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    model, x = Chain(), grid(*shape)
    agree(model, lower(model, x), x)


class Sizes(nn.Module):
    """A linear of `k` inputs and `n` outputs, perhaps 0 of either."""

    def __init__(self, k: int, n: int) -> None:
        super().__init__()
        self.linear = Linear(k, n)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x))


@pytest.mark.parametrize(("k", "n"), [(1, 1), (0, 5), (5, 0), (3, 65), (65, 3)])
def test_sizes(k: int, n: int) -> None:
    model, x = Sizes(k, n), grid(4, k)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, (x,), on_fallback="ignore")
    agree(model, lowered, x)


ROWS = (0, 1, 2, 7, 1000)


@pytest.mark.parametrize("example", [1, 3])
def test_a_batch_of_any_size(example: int) -> None:
    model = Chain()
    lowered = lower(model, grid(example, 20), dynamic_shapes=({0: BATCH},))
    for rows in ROWS:
        agree(model, lowered, grid(rows, 20))
    with pytest.raises(lower86.InputError, match=r"shape \[3, 21\]"):
        lowered(grid(3, 21))


PARTS = {"columns": lambda t: t[:, :20], "rows": lambda t: t[::2, :20], "transposed": lambda t: t[:20].t()}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("exported", [False, True])
def test_a_batch_of_any_size_from_a_strided_example(part: str, exported: bool) -> None:
    model: nn.Module = Chain()
    shapes, x = ({0: BATCH},), PARTS[part](grid(44, 44))
    if exported:  # this graph checks the strides of its inputs
        given = torch.export.export(model, (x,), dynamic_shapes=shapes).module()
        lowered = lower(given, x)
    else:
        lowered = lower(model, x, dynamic_shapes=shapes)
    for rows in ROWS:
        agree(model, lowered, grid(rows, 20))


class Gelu(nn.Module):
    """Two linears around a gelu."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(nn.functional.gelu(self.first(x)))


def near_but_for_a_rounding(got: Tensor, expected: Tensor) -> None:
    """A hidden value on the edge between two integers may become either."""
    off = (got - expected).abs()
    assert got.shape == expected.shape
    assert off.numel() == 0 or off.max() < 0.005
    assert (off > 1e-5).sum() <= 0.002 * off.numel()


def test_dims_that_the_quantized_model_leaves_open_stay_open() -> None:
    x = torch.randn(64, 16)
    model = quantize(Gelu(), (x,), dynamic_shapes=({0: BATCH},))
    lowered = lower(model, x[:1])
    for rows in ROWS:
        agree(model, lowered, torch.randn(rows, 16), compare=near_but_for_a_rounding)


def test_bounds_are_checked() -> None:
    model = Chain()
    lowered = lower(model, grid(4, 20), dynamic_shapes=({0: torch.export.Dim("batch", min=4, max=9)},))
    agree(model, lowered, grid(9, 20))
    for rows in (3, 10):
        with pytest.raises(lower86.InputError, match=rf"is {rows}, outside its range 4 … 9"):
            lowered(grid(rows, 20))


class Joint(nn.Module):
    """Two inputs of one batch, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(20, 12)

    def forward(self, x: Tensor, more: dict[str, list[Tensor]]) -> Tensor:
        return self.linear(x) + more["a"][0] + more["a"][1]


@pytest.mark.parametrize("spell", ["tuple", "dict", "collection", "auto"])
def test_dynamic_shapes_in_every_spelling(spell: str) -> None:
    model, x, more = Joint(), grid(1, 20), {"a": [grid(1, 12), grid(12)]}
    auto = torch.export.Dim.AUTO
    shapes: Any = {
        "tuple": ({0: BATCH}, {"a": [{0: BATCH}, None]}),
        "dict": {"x": (BATCH, None), "more": {"a": [(BATCH, 12), None]}},
        "auto": ({0: auto}, {"a": [{0: auto}, None]}),
    }.get(spell)
    if spell == "collection":
        shapes = torch.export.ShapesCollection()
        shapes[x] = {0: BATCH}
        shapes[more["a"][0]] = {0: BATCH}
    lowered = lower(model, x, more, dynamic_shapes=shapes)
    for rows in (1, 5):
        agree(model, lowered, grid(rows, 20), {"a": [grid(rows, 12), grid(12)]})
    with pytest.raises(lower86.InputError, match="shape"):
        lowered(grid(4, 20), {"a": [grid(5, 12), grid(12)]})


def test_constants_of_a_dynamic_size_are_native() -> None:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(20, 12)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.shape[0]
            return self.linear(x) + torch.zeros(rows, 1) + torch.full((rows, 1), 2.0) + torch.arange(rows)[:, None]

    model = Filled()
    lowered = lower(model, grid(4, 20), dynamic_shapes=({0: BATCH},))
    agree(model, lowered, grid(7, 20))


def test_dims_of_keyword_arguments_stay_open_in_any_order() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 8)

        def forward(self, x: Tensor, *, bias: Tensor, factor: Tensor) -> Tensor:
            return self.linear(x) * factor + bias

    def named(rows: int, width: int) -> dict[str, Tensor]:
        return {"factor": torch.randn(rows, 1), "bias": torch.randn(width, 8)}

    x = torch.randn(4, 16)
    shapes = {"x": {0: BATCH}, "bias": None, "factor": {0: BATCH}}
    model = quantize(Keywords(), (x,), dict(reversed(named(4, 1).items())), dynamic_shapes=shapes)
    lowered = lower(model, x, example_kwargs=named(4, 1))
    agree(model, lowered, torch.randn(9, 16), compare=near, **named(9, 1))
    with pytest.raises(lower86.InputError, match="bias has shape"):
        lowered(x, **named(4, 4))


@pytest.mark.parametrize("kind", [MLP, Attention, Embedding])
def test_dynamic_batches_of_whole_models(kind: type[nn.Module]) -> None:
    def inputs(rows: int) -> tuple[Tensor, ...]:
        if kind is Embedding:
            return (torch.randint(0, 50, (rows, 5)),)
        x = torch.randn(rows, 5, 16)
        return (x,) if kind is MLP else (x, torch.rand(rows, 5) < 0.7)

    given = inputs(4)
    model = quantize(kind(), given, dynamic_shapes=tuple({0: BATCH} for _ in given))
    lowered = lower_anyhow(model, *given)
    assert lowered(*inputs(0)).shape[0] == 0
    for rows in (1, 4, 9):
        again = inputs(rows)
        difference = (lowered(*again) - model(*again)).abs()
        assert difference.max() < 0.2
        assert difference.mean() < 2e-3
