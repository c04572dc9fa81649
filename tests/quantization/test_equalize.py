"""Factors folded into what makes a value: only where they are the same channels, and nobody else reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional

from lower86.graph.scaled import factors_of
from lower86.quantization.equalize import can_fold, fold_into_producer
from lower86.quantization.slots import slots_of
from tests.quantization.prepared import settled, slot_of

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


class Shared(Pair):
    """The same with one more reader of the first layer's result."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(y) + y


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
    "a norm without bias": (Pair(nn.LayerNorm(8, bias=False), lambda x: x, nn.Linear(8, 4)), ROWS),
    "one dim": (Pair(nn.Conv1d(4, 8, 3), torch.relu, nn.Conv1d(8, 4, 1)), (2, 4, 12)),
}
STAYS: dict[str, tuple[Pair, tuple[int, ...]]] = {
    "gelu": (Pair(nn.Conv2d(4, 8, 3), functional.gelu, _conv()), IMAGE),
    "relu6": (Pair(nn.Conv2d(4, 8, 3), functional.relu6, _conv()), IMAGE),
    "a norm without weights": (Pair(nn.LayerNorm(8, elementwise_affine=False), lambda x: x, nn.Linear(8, 4)), ROWS),
    "a norm of two dims": (Pair(nn.LayerNorm((8, 8)), lambda x: x, nn.Linear(8, 4)), ROWS),
    "somebody else reads it": (Shared(nn.Linear(8, 8), lambda x: x, nn.Linear(8, 8)), ROWS),
    "a convolution's columns are a linear's channels": (Pair(nn.Conv2d(4, 8, 3), torch.relu, nn.Linear(8, 4)), IMAGE),
    "a linear's channels are a convolution's columns": (Pair(nn.Linear(8, 8), torch.relu, _conv()), (2, 8, 8, 8)),
    "other dims": (Pair(nn.Conv1d(4, 8, 1), lambda x: x[:, None].relu(), nn.Conv2d(1, 4, 1)), (2, 4, 12)),
    "a view that mixes": (Pair(nn.Linear(8, 16), lambda x: torch.relu(x).reshape(2, -1, 8), nn.Linear(8, 4)), ROWS),
}  # fmt: skip


def _try(model: Pair, shape: tuple[int, ...], channels: int) -> tuple[bool, bool]:
    """Whether factors could be folded, and whether the value is then multiplied by them and nothing else is."""
    call = (torch.randn(shape),)
    graph, _ = settled(model, [call])
    slot = next(slot for slot in slots_of(graph) if slot.kind != "weight" and slot.source.op == "call_function")
    factors = torch.rand(channels) + 0.5
    before = _value(graph, slot.source, call)
    could = can_fold(graph, slot, channels)
    assert fold_into_producer(graph, slot, factors) == could
    noted = factors_of(slot.source)
    wanted = before if noted is None else before * noted
    torch.testing.assert_close(_value(graph, slot.source, call), wanted, rtol=1e-5, atol=1e-5)
    if noted is not None:
        assert torch.equal(noted.flatten(), factors)
    return could, noted is not None


def _value(graph: GraphModule, node: Node, call: tuple[Tensor, ...]) -> Tensor:
    """What the node gives."""
    interpreter = torch.fx.Interpreter(graph, garbage_collect_values=False)
    interpreter.run(*call, enable_io_processing=False)
    found: Tensor = interpreter.env[node]
    return found


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
