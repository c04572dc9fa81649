"""Weights' ranges: all of the weight, or the least squared error of a grid, in the integers that the spec has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86 import Lower86Error, QuantizationConfig, X86Quantizer
from lower86.frontend import torchao
from lower86.quantization.clip import rounded_weight, settle_range, settle_weights
from lower86.quantization.simulate import Rounded
from lower86.quantization.slots import slots_of
from tests.models.small import Embedding
from tests.quantization.prepared import prepared, slot_of


def observer(weight: Tensor, *, per_channel: bool = True, low: int = -128, high: int = 127) -> Any:
    """A linear's weight observer, with other ends of the integers than its own."""
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    quantizer = X86Quantizer().set_global(QuantizationConfig.static(per_channel_weights=per_channel))
    found = slot_of(prepared(linear, (torch.randn(2, weight.shape[1]),), quantizer), "weight").observer
    found.quant_min, found.quant_max = low, high
    return found


def errors(rounds: Any, weight: Tensor) -> Tensor:
    """The squared error of each row as the observer rounds it."""
    return (Rounded(rounds)(weight) - weight).square().sum(1)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-127, 127), (-8, 7)])
def test_clipped_has_the_least_error_of_a_grid(per_channel: bool, low: int, high: int) -> None:
    weight = torch.randn(6, 400)
    weight[0, 0] = 9
    weight[1] = 0
    one = observer(weight, per_channel=per_channel, low=low, high=high)
    settle_range(one, weight, clipped=False)
    whole = errors(one, weight)
    settle_range(one, weight, clipped=True)
    clipped = errors(one, weight)
    assert clipped.sum() <= whole.sum()
    if high == 7:
        assert clipped[0] < 0.8 * whole[0]
    for part in torch.linspace(1, 0.5, 26):
        ends = (weight.amin(1), weight.amax(1)) if per_channel else (weight.min(), weight.max())
        torchao.settle(one, ends[0] * part, ends[1] * part)
        other = errors(one, weight)
        least = clipped if per_channel else clipped.sum()
        assert bool((least <= (other if per_channel else other.sum()) * (1 + 1e-5) + 1e-9).all())


def test_rounded_weights_are_those_of_the_settled_observer() -> None:
    weight = torch.randn(6, 40) * torch.logspace(-6, 3, 6)[:, None]
    for per_channel in (True, False):
        one = observer(weight, per_channel=per_channel)
        settle_range(one, weight, clipped=False)
        got, wanted = rounded_weight(one, weight), Rounded(one)(weight)
        other = (got - wanted).abs() > 1e-5 * wanted.abs()
        assert int(other.sum()) <= 2, "but for ties, which a reciprocal may round the other way"


def test_tables_and_weights_of_every_operator() -> None:
    graph = prepared(Embedding(), (torch.randint(0, 50, (2, 8)),))
    assert settle_weights(graph, clipped=True) == "4 weights"
    for slot in slots_of(graph):
        if slot.kind == "weight":
            weight = graph.get_parameter(str(slot.source.target))
            assert errors(slot.observer, weight).max() < 1e-4 * weight.square().sum(1).max()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(wrong: float) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[0, 0] = wrong
    with pytest.raises(Lower86Error, match=r"NaN or infinities\n.*1.weight, node linear_1, module 1"):
        settle_weights(prepared(model, (torch.randn(2, 4),)), clipped=False)
