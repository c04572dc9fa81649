"""Weights of every kind: signs, zero points, axes, scales, extremes, sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.ops.matmul import int8_matmul
from tests.models.checks import agree, lower, lower_anyhow, same, warned
from tests.models.qdq import S8, Linear, Scale, grid
from tests.models.qdq import U8 as U8_X

I8, U8 = torch.int8, torch.uint8


WEIGHTS: list[dict[str, Any]] = [
    {"dtype": I8},
    {"dtype": I8, "axis": None},
    {"dtype": I8, "bias": False},
    {"dtype": I8, "zero_point": 3},
    {"dtype": I8, "zero_point": [(5 * i) % 256 - 128 for i in range(12)]},
    {"dtype": I8, "zero_point": 127, "axis": None},
    {"dtype": U8, "zero_point": 128},
    {"dtype": U8, "zero_point": 0},
    {"dtype": U8, "zero_point": 255, "axis": None},
    {"dtype": U8, "zero_point": [(37 * i) % 256 for i in range(12)]},
]
ACTIVATIONS = [U8_X, Scale(zero_point=0), Scale(zero_point=255), S8, Scale(2.0**-4, -128, -128, 127, I8)]


class Side(nn.Module):
    """Linears of all kinds side by side on one input."""

    def __init__(self, kinds: list[tuple[dict[str, Any], Scale]]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(Linear(x=x, **weight) for weight, x in kinds)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [linear(x) for linear in self.linears]


@pytest.mark.parametrize("first", range(len(ACTIVATIONS)))
def test_dtypes_scales_and_zero_points(first: int) -> None:
    """Every kind of weight, each time with other activations."""
    kinds = [(weight, ACTIVATIONS[(first + i) % len(ACTIVATIONS)]) for i, weight in enumerate(WEIGHTS)]
    model, inputs = Side(kinds), grid(7, 20)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs)
    assert lower86.explain(lowered).int8_fraction == 1
    assert len(lower86.explain(lowered).operators) == len(WEIGHTS)
    same(lowered.run_reference(inputs), lowered(inputs))


def test_scales_along_the_summed_axis_are_refused() -> None:
    model, inputs = Linear(axis=1), grid(7, 20)
    lowered, messages = warned(model, inputs)
    assert len(messages) == 1
    assert "along axis 1" in messages[0]
    (record,) = lower86.explain(lowered).operators
    assert "summed" in record.reason
    agree(model, lowered, inputs)


@pytest.mark.parametrize("extreme", [-128, 127])
def test_extreme_weights(extreme: int) -> None:
    weight = {"k": 64, "n": 5, "weight": torch.full((5, 64), extreme)}
    model = Side([(weight, x) for x in ACTIVATIONS])
    inputs = torch.cat([torch.full((1, 64), -99.0), torch.full((1, 64), 99.0), grid(3, 64)])
    agree(model, lower(model, inputs), inputs)


@pytest.mark.parametrize(("dtype", "zero_point"), [(torch.uint8, 0), (torch.int8, -128), (torch.uint8, 255)])
def test_weights_far_from_their_zero_point(dtype: torch.dtype, zero_point: int) -> None:
    every = torch.arange(256).repeat(3)[: 12 * 20].reshape(12, 20) + torch.iinfo(dtype).min
    for weight in (every, torch.full((12, 20), torch.iinfo(dtype).max), torch.full((12, 20), torch.iinfo(dtype).min)):
        model, inputs = Linear(weight=weight, dtype=dtype, zero_point=zero_point), grid(5, 20)
        lowered = lower(model, inputs)
        assert lower86.explain(lowered).int8_fraction == 1
        agree(model, lowered, inputs)
        same(lowered.run_reference(inputs), lowered(inputs))


@pytest.mark.parametrize("x", [Scale(zero_point=0), S8], ids=["u8", "s8"])
def test_sums_beyond_32_bits_are_exact(x: Scale) -> None:
    """K = 70,000: 255 x 127 x 70,000 is more than 2^31."""
    weight = torch.full((3, 70_000), 127)
    weight[1] = -128
    weight[2] = torch.randint(-128, 128, (70_000,))
    model = Linear(70_000, 3, x=x, weight=weight)
    inputs = torch.cat([torch.full((1, 70_000), 99.0), torch.full((1, 70_000), -99.0), grid(2, 70_000)])
    result = lower(model, inputs)(inputs)
    xs = (inputs.double() / x.scale).round().add(x.zero_point).clamp(x.low, x.high).sub(x.zero_point)
    expected = (xs @ weight.double().T) * (x.scale * model.scales.double()) + model.bias.double()
    torch.testing.assert_close(result.double(), expected, rtol=2.0**-23, atol=2.0**-10)


class Tied(nn.Module):
    """One linear applied twice, and a second one with a copy of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Linear(16, 16, axis=None), Linear(16, 16, axis=None)
        self.other.weight = self.one.weight.clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(self.one(x)) / 4)


def test_tied_weights_are_packed_once() -> None:
    model, inputs = Tied(), grid(4, 16)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs)
    packings = [packing.kind for packing in lowered.program.packings]
    assert packings.count("int8_panels") == 1
    assert len(lower86.explain(lowered).operators) == 3


class Unfolded(nn.Module):
    """The weight is a float parameter, quantized in the graph: what `fold_quantize=False` leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.x = nn.Parameter(grid(12, 20)), Scale()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.x(x), Scale(2.0**-4, 0, -127, 127, torch.int8)(self.weight))


def test_a_weight_that_the_graph_quantizes() -> None:
    model, inputs = Unfolded(), grid(3, 20)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs)
    assert [t.dtype for t in lowered.state_dict().values() if t.dim() == 2] == [torch.int8]


class Given(nn.Module):
    """The weight is an input."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.linear(Scale()(x), S8(weight))


def test_a_weight_that_is_no_constant_is_an_activation() -> None:
    model, inputs = Given(), (grid(3, 20), grid(12, 20))
    lowered = lower(model, *inputs)
    agree(model, lowered, *inputs)
    assert int8_matmul in [node.target for node in lowered.graph.nodes]


@pytest.mark.parametrize(("axis", "lowered"), [(-2, True), (-1, False)])
def test_an_axis_may_count_from_the_end(axis: int, lowered: bool) -> None:
    model, inputs = Linear(axis=axis % 2), grid(7, 20)
    model.axis = axis
    module = lower_anyhow(model, inputs)
    agree(model, module, inputs)
    assert lower86.explain(module).int8_fraction == lowered
