"""Quantized activations: signs, ranges narrower than the dtype, values that are no numbers, parameters at run time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import lower86
from tests.models.checks import agree, lower, lower_anyhow, near, same, warned
from tests.models.qdq import S8, U8, Linear, Q, Scale, grid


class Requantized(nn.Module):
    """linear, activation, quantize to `out`, linear."""

    def __init__(self, out: Scale, x: Scale = U8) -> None:
        super().__init__()
        self.first, self.second = Linear(20, 16, x=x), Linear(16, 12, x=out)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


NARROW = [
    Scale(2.0**-1, 0, 0, 127),
    Scale(2.0**-1, 5, 3, 90),
    Scale(2.0**-1, 0, -127, 127, torch.int8),
    Scale(2.0**-1, -60, -64, 63, torch.int8),
    Scale(2.0**-1, 64, 0, 255),
    Scale(2.0**-1, -128, -128, 127, torch.int8),
]


class Side(nn.Module):
    """Modules side by side on one input."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [part(x) for part in self.parts]


def test_the_output_is_clamped_to_the_range_of_the_graph() -> None:
    model, inputs = Side([Requantized(out) for out in NARROW]), grid(6, 20)
    agree(model, lower(model, inputs), inputs)


def test_the_input_is_clamped_to_the_range_of_the_graph() -> None:
    narrow = [Scale(2.0**-4, 64, 0, 127), Scale(2.0**-4, 0, -127, 127, torch.int8), Scale(2.0**-4, 9, 3, 99)]
    model, inputs = Side([Linear(x=x) for x in narrow]), grid(6, 20, reach=1000)
    agree(model, lower(model, inputs), inputs)


class Quantized(nn.Module):
    """The input, quantized and handed back as integers, besides going through a linear."""

    def __init__(self, x: Scale) -> None:
        super().__init__()
        self.x, self.linear = x, Linear(8, 4, x=x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return Q.quantize_per_tensor(x, *self.x.all), self.linear(x)


@pytest.mark.parametrize("x", [U8, S8, Scale(2.0**-4, 9, 3, 99)], ids=["u8", "s8", "narrow"])
def test_nan_and_infinity(x: Scale) -> None:
    """NaN gives the zero point, infinities and large values the ends of the range."""
    model, inputs = Quantized(x), grid(2, 8)
    lowered = lower(model, inputs)
    nasty = torch.tensor([[math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, -0.0, 1e-40]])
    inputs = torch.cat([nasty, grid(1, 8)])
    q, y = lowered(inputs)
    low, high, zero = x.low, x.high, x.zero_point
    same(q[0], torch.tensor([zero, high, low, high, low, high, zero, zero], dtype=x.dtype))
    assert y.isfinite().all()
    same(lowered.run_reference(inputs), (q, y))  # the definition, where PyTorch's own leaves NaN open


def test_nan_in_float_parts_stays_nan() -> None:
    model = nn.Sequential(Linear(8, 8), nn.LayerNorm(8))
    inputs = grid(3, 8)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs, compare=near)

    class Added(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(model[0](x) + x)

    holder = Added()
    holder.linear = model[0]
    inputs[1, 2] = math.nan
    result = lower(holder, grid(3, 8))(inputs)
    assert result.isnan().sum() == 1
    assert bool(result[1, 2].isnan())


class PerChannelActivation(nn.Module):
    """The activation has a scale a column: it cannot leave the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(8, 4)
        self.register_buffer("scales", 2.0 ** -torch.arange(8).float())
        self.register_buffer("zeros", torch.zeros(8, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        given = (self.scales, self.zeros, 1, -128, 127, torch.int8)
        q = Q.quantize_per_channel(x, *given)
        return nn.functional.linear(Q.dequantize_per_channel(q, *given), self.linear.dequantized())


class WeightOnly(nn.Module):
    """Only the weight is quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.linear.dequantized(), self.linear.bias)


class ActivationOnly(nn.Module):
    """Only the activation is quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(grid(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(U8(x), self.weight)


REFUSED = [
    (PerChannelActivation, "per channel"),
    (WeightOnly, "activation is float"),
    (ActivationOnly, "weight is float"),
]


@pytest.mark.parametrize(("kind", "reason"), REFUSED, ids=[kind.__name__ for kind, _ in REFUSED])
def test_what_cannot_be_int8_stays_float_with_a_reason(kind: type[nn.Module], reason: str) -> None:
    model, inputs = kind(), grid(5, 8)
    lowered, messages = warned(model, inputs)
    assert len(messages) == 1
    assert reason in messages[0]
    assert lower86.explain(lowered).int8_fraction == 0
    agree(model, lowered, inputs, compare=near)


def test_dequantized_twice_and_dead_pairs() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            U8(x * 3)  # nobody reads it
            return self.linear(U8(U8(x)))

    model, inputs = Pairs(), grid(5, 8)
    lowered = lower_anyhow(model, inputs)
    agree(model, lowered, inputs)
    assert len(lowered.program.steps) == 2  # quantize, linear
