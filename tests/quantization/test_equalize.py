"""Factors folded into what makes a value: only where they are the same channels, and nobody else reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lower86.graph.scaled import factors_of
from lower86.quantization.equalize import can_fold, fold_into_producer
from tests.quantization.prepared import floats, settled, slot_of

IMAGE, ROWS = (2, 4, 10, 10), (2, 6, 8, 8)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Pair(nn.Module):
    """A layer, something between, and another layer."""

    def __init__(self, first: nn.Module, between: Callable[[Tensor], Tensor], second: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.second = first, between, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


def _conv() -> nn.Module:
    return nn.Conv2d(8, 4, 1)


FOLDS: dict[str, tuple[Pair, tuple[int, ...]]] = {
    "relu": (Pair(nn.Conv2d(4, 8, 3), torch.relu, _conv()), IMAGE),
    "leaky relu": (Pair(nn.Conv2d(4, 8, 3, groups=2), functional.leaky_relu, _conv()), IMAGE),
    "no bias": (Pair(nn.Conv2d(4, 8, 3, bias=False), torch.relu, _conv()), IMAGE),
    "no batch": (Pair(nn.Conv2d(4, 8, 3), torch.relu, _conv()), IMAGE[1:]),
    "dropout": (Pair(nn.Conv2d(4, 8, 3), lambda x: functional.dropout(torch.relu(x), training=False), _conv()), IMAGE),
    "linears": (Pair(nn.Linear(8, 16), torch.relu, nn.Linear(16, 4)), ROWS),
    "linears and a view": (Pair(nn.Linear(8, 16), lambda x: torch.relu(x).reshape(-1, 16), nn.Linear(16, 4)), ROWS),
    "a norm": (Pair(nn.LayerNorm(8), lambda x: x, nn.Linear(8, 4)), ROWS),
    "a norm without bias": (Pair(nn.LayerNorm(8, bias=False), lambda x: x * 1 if False else x, nn.Linear(8, 4)), ROWS),
    "one dim": (Pair(nn.Conv1d(4, 8, 3), torch.relu, nn.Conv1d(8, 4, 1)), (2, 4, 12)),
}
STAYS: dict[str, tuple[Pair, tuple[int, ...]]] = {
    "gelu": (Pair(nn.Conv2d(4, 8, 3), functional.gelu, _conv()), IMAGE),
    "relu6": (Pair(nn.Conv2d(4, 8, 3), functional.relu6, _conv()), IMAGE),
    "a norm without weights": (Pair(nn.LayerNorm(8, elementwise_affine=False), lambda x: x, nn.Linear(8, 4)), ROWS),
    "a norm of two dims": (Pair(nn.LayerNorm((8, 8)), lambda x: x, nn.Linear(8, 4)), ROWS),
    "somebody else reads it": (Pair(nn.Linear(8, 8), lambda x: x, nn.Sequential(nn.Linear(8, 8))), ROWS),
    "a convolution's columns are a linear's channels": (Pair(nn.Conv2d(4, 8, 3), torch.relu, nn.Linear(8, 4)), IMAGE),
    "a linear's channels are a convolution's columns": (Pair(nn.Linear(8, 8), torch.relu, nn.Conv2d(8, 4, 1)), (2, 8, 8, 8)),
    "other dims": (Pair(nn.Conv1d(4, 8, 1), lambda x: x[:, None].relu(), nn.Conv2d(1, 4, 1)), (2, 4, 12)),
    "a view that mixes": (Pair(nn.Linear(8, 16), lambda x: torch.relu(x).reshape(2, -1, 8), nn.Linear(8, 4)), ROWS),
}  # fmt: skip
STAYS["somebody else reads it"][0].forward = lambda x: (lambda y: STAYS["somebody else reads it"][0].second(y) + y)(  # type: ignore[method-assign]  # one more reader
    STAYS["somebody else reads it"][0].first(x)
)


def _try(model: Pair, shape: tuple[int, ...], channels: int) -> tuple[bool, bool]:
    """Whether factors could be folded, and whether the value is then multiplied by them and nothing else is."""
    call = (torch.randn(shape),)
    graph, _ = settled(model, [call])
    kind = "linear" if model.second.__class__ in (nn.Linear, nn.Sequential) else "convolution"
    slot = slot_of(graph, kind, 1 if not isinstance(model.first, nn.LayerNorm) and _same(model) else 0)
    factors = torch.rand(channels) + 0.5
    graph.graph.output_node().args = ((slot.source,),)
    graph.recompile()
    before = floats(graph, *call)[0]
    could = can_fold(graph, slot, channels)
    assert fold_into_producer(graph, slot, factors) == could
    graph.recompile()
    after = floats(graph, *call)[0]
    noted = factors_of(slot.source)
    wanted = before if noted is None else before * noted
    torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-5)
    return could, noted is not None


def _same(model: Pair) -> bool:
    """Whether both layers are of the same kind, so that the second one's input is the second slot of that kind."""
    return isinstance(model.first, nn.Linear) == (model.second.__class__ in (nn.Linear, nn.Sequential))


@pytest.mark.parametrize(("model", "shape"), FOLDS.values(), ids=FOLDS)
def test_what_folds(model: Pair, shape: tuple[int, ...]) -> None:
    weight = model.first.weight
    assert isinstance(weight, Tensor)
    assert _try(model, shape, len(weight)) == (True, True)


@pytest.mark.parametrize(("model", "shape"), STAYS.values(), ids=STAYS)
def test_what_stays(model: Pair, shape: tuple[int, ...]) -> None:
    assert _try(model, shape, 8) == (False, False)
    assert _try(model, shape, 5) == (False, False)


def test_a_weight_of_two_layers_stays() -> None:
    tied = nn.Conv2d(8, 8, 1)
    model = nn.Sequential(tied, nn.ReLU(), tied)
    call = (torch.randn(2, 8, 4, 4),)
    graph, _ = settled(model, [call])
    assert not can_fold(graph, slot_of(graph, "convolution", 1), 8)
