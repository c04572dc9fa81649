"""What reads a value decides what kind of slot it is; what stands in for observers goes again, and state with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86.quantization.slots import slots_of, standing_in, weight_of
from lower86.quantization.watch import run
from tests.quantization.prepared import prepared

X = torch.randn(2, 4, 8)


class Reads(nn.Module):
    """Has its input read by a function of it and a weight."""

    def __init__(self, read: Callable[[Tensor, Any], Tensor], *shape: int) -> None:
        super().__init__()
        self.read, self.weight = read, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x, self.weight)


@pytest.mark.parametrize(
    ("read", "shape", "kind", "spatial"),
    [
        (nn.functional.linear, (3, 8), "linear", 0),
        (torch.matmul, (8, 3), "linear", 0),
        (lambda x, w: torch.addmm(w[0], x.view(-1, 8), w), (8, 8), "linear", 0),
        (lambda x, w: torch.mm(x.view(-1, 8), w), (8, 3), "linear", 0),
        (lambda x, w: torch.matmul(w, x), (3, 4), "other", 0),
        (torch.matmul, (2, 8, 3), "other", 0),
        (nn.functional.conv1d, (3, 4, 1), "convolution", 1),
        (nn.functional.conv2d, (3, 2, 1, 1), "convolution", 2),
    ],
)
def test_kinds(read: Callable[[Tensor, Any], Tensor], shape: tuple[int, ...], kind: str, spatial: int) -> None:
    graph = prepared(Reads(read, *shape), (X,))
    (slot,) = [slot for slot in slots_of(graph) if slot.kind != "weight"]
    assert (slot.kind, slot.spatial) == (kind, spatial)
    for weight in (slot for slot in slots_of(graph) if slot.kind == "weight"):
        assert weight_of(graph, weight).shape == shape or shape == (8, 8)


def test_a_shared_observer_is_one_slot() -> None:
    shared = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1))
    slots = slots_of(prepared(shared, (torch.randn(1, 4, 10, 10),)))
    assert sorted(len(slot.calls) for slot in slots) == [1, 1, 1, 2]


class Counts(nn.Module):
    """Adds what it gets to its state, and one to what it gets."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 8))
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(self.linear(x))
        x.add_(1)
        return self.total * 1


def test_state_and_inputs_are_as_they_were() -> None:
    x = torch.randn(2, 8)
    before = x.clone()
    graph = prepared(Counts(), (x.clone(),))
    names = [slot.name for slot in slots_of(graph)]
    own = [graph.get_submodule(name) for name in names]
    with torch.no_grad():
        results = []
        for _ in range(2):
            with standing_in(graph, {name: nn.Identity() for name in names}):
                run(graph, [x])
                results.append(run(graph, [x]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert torch.equal(x, before)
    assert not bool(graph.total.any())
    assert [graph.get_submodule(name) for name in names] == own


def test_own_modules_come_back_after_an_error() -> None:
    graph = prepared(nn.Linear(8, 8), (torch.randn(2, 8),))
    (name, *_) = (slot.name for slot in slots_of(graph))
    own = graph.get_submodule(name)
    with pytest.raises(ValueError, match="stop"), standing_in(graph, {name: nn.Identity()}):
        raise ValueError("stop")
    assert graph.get_submodule(name) is own
