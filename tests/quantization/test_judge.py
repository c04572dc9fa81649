"""Steps that hurt are dropped, those that help are kept; what is no number is worse than anything."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from lower86.frontend import torchao
from lower86.quantization.clip import settle_weights
from lower86.quantization.judge import Judge
from lower86.quantization.slots import slots_of
from tests.models.quantized import quantize
from tests.quantization.prepared import settled, slot_of

CALLS = [(torch.randn(4, 16),) for _ in range(3)]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Two(nn.Module):
    """Two results of very different size, and one that is no float."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.a(x) * 1e6, self.b(x), torch.ones(3, dtype=torch.int64)


def _wider(graph: GraphModule) -> str:
    slot = slot_of(graph, "linear")
    torchao.settle(slot.observer, torch.tensor(-40.0), torch.tensor(40.0))
    return "far too wide"


def test_the_number_is_that_of_the_converted_graph() -> None:
    model = Two().eval()
    graph, _ = settled(model, CALLS[:1])
    judged = Judge(graph, CALLS).sqnr(graph)
    converted = torchao.convert(torchao.copied(graph))
    parts = []
    for i in range(2):
        exact = torch.stack([model(*call)[i] for call in CALLS]).double()
        got = torch.stack([converted(*call)[i] for call in CALLS]).double()
        parts.append((got - exact).square().sum() / exact.square().sum())
    assert judged == pytest.approx(-10 * math.log10(sum(parts) / 2), abs=0.01)
    assert quantize(model, CALLS[0]) is not None


def test_a_step_that_hurts_is_dropped_and_one_that_helps_is_kept() -> None:
    graph, _ = settled(Two(), CALLS)
    judge = Judge(graph, CALLS)
    plain = judge.sqnr(graph)
    same, step = judge.attempt(graph, "widening", plain, _wider)
    assert same is graph
    assert not step.kept
    assert step.after < plain - 6
    assert "dropped: it makes the outputs worse" in str(step)
    assert judge.sqnr(graph) == plain, "the step had a copy"
    _wider(graph)
    worse = judge.sqnr(graph)

    def narrower(tried: GraphModule) -> str:
        torchao.settle(slot_of(tried, "linear").observer, torch.tensor(-4.0), torch.tensor(4.0))
        return settle_weights(tried, clipped=True)

    better, step = judge.attempt(graph, "narrowing", worse, narrower)
    assert better is not graph
    assert step.kept
    assert judge.sqnr(better) == step.after > worse + 6
    assert [slot.name for slot in slots_of(better)] == [slot.name for slot in slots_of(graph)]


def test_no_number_is_the_worst() -> None:
    graph, _ = settled(nn.Linear(16, 8), CALLS)
    judge = Judge(graph, CALLS)
    graph.get_parameter("bias")[0] = torch.nan
    assert judge.sqnr(graph) == -math.inf
    assert not judge.attempt(graph, "nothing", 0.0, lambda _: "")[1].kept


def test_outputs_that_are_not_finite_in_float_do_not_count() -> None:
    model = nn.Linear(16, 8)
    model.bias[0] = torch.inf
    graph, _ = settled(model, CALLS)
    assert 20 < Judge(graph, CALLS).sqnr(graph) < math.inf
    model.bias[:] = torch.nan
    assert Judge(settled(model, CALLS)[0], CALLS).sqnr(settled(model, CALLS)[0]) == math.inf
