"""The numerics contract with parameters as they come: no powers of two, activations of every kind, whole models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.checks import lower
from tests.models.qdq import Linear, Q, Scale
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention, Embedding

EPSILON = 2.0**-23


def ordinary(k: int, n: int, x: Scale) -> Linear:
    """A linear whose scales are ordinary numbers."""
    linear = Linear(k, n, x=x)
    linear.scales = torch.rand(n) * 0.02 + 1e-3
    linear.bias = torch.randn(n)
    return linear


@pytest.mark.parametrize(
    ("m", "k", "n", "x"),
    [
        (1, 64, 65, Scale(0.0213, 118)),
        (33, 7, 129, Scale(0.173, 0)),
        (130, 515, 31, Scale(0.0047, -17, -128, 127, torch.int8)),
    ],
)
def test_float_outputs_are_within_four_units_of_exact(m: int, k: int, n: int, x: Scale) -> None:
    linear, inputs = ordinary(k, n, x), torch.randn(m, k)
    got = lower(linear, inputs)(inputs).double()
    q = Q.quantize_per_tensor(inputs, *x.all).double() - x.zero_point
    product = q @ linear.weight.double().T * (linear.scales.double() * x.scale)
    bound = 4 * EPSILON * (product.abs() + linear.bias.double().abs())
    assert ((got - (product + linear.bias.double())).abs() <= bound).all()


class Requantized(nn.Module):
    """linear, activation, quantize, for each activation: handed back as integers."""

    def __init__(self) -> None:
        super().__init__()
        self.linears = nn.ModuleList(ordinary(48, 96, Scale(0.0213, 118)) for _ in ACTIVATIONS)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            name: Q.quantize_per_tensor(activation(linear(x)), *out.all)
            for linear, (name, (activation, out)) in zip(self.linears, ACTIVATIONS.items(), strict=True)
        }


WIDE, UNIT = Scale(0.0131, 77), Scale(1 / 127, 128)
ACTIVATIONS: dict[str, tuple[Any, Scale]] = {
    "none": (lambda y: y, WIDE),
    "relu": (torch.relu, WIDE),
    "gelu": (F.gelu, WIDE),
    "gelu, tanh": (lambda y: F.gelu(y, approximate="tanh"), WIDE),
    "silu": (F.silu, WIDE),
    "sigmoid": (torch.sigmoid, UNIT),
    "tanh": (torch.tanh, UNIT),
    "clamp": (lambda y: y.clamp(-1, 2), WIDE),
    "polynomial": (lambda y: y + y.square() * 0.1, WIDE),
}


def test_quantized_outputs_differ_by_one_at_most_and_rarely() -> None:
    model, inputs = Requantized(), torch.randn(64, 48)
    lowered = lower(model, inputs)
    got, eager, reference = lowered(inputs), model(inputs), lowered.run_reference(inputs)
    for name, result in got.items():
        assert result.unique().numel() > 20
        for expected in (eager[name], reference[name]):
            difference = (result.int() - expected.int()).abs()
            assert difference.max() <= 1, name
            assert (difference != 0).double().mean() <= 1e-3, name


@pytest.mark.parametrize("kind", [MLP, Attention, Embedding])
def test_whole_models_are_within_a_quarter_of_the_quantization_error(kind: type[nn.Module]) -> None:
    model = kind().eval()
    if kind is Embedding:
        inputs: tuple[Tensor, ...] = (torch.randint(0, 50, (16, 8)),)
    else:
        x = torch.randn(16, 8, 16)
        inputs = (x,) if kind is MLP else (x, torch.rand(16, 8) < 0.8)
    with torch.no_grad():
        fp32 = model(*inputs)
        quantized = quantize(model, inputs)
        expected = quantized(*inputs)
    got = lower(quantized, *inputs)(*inputs)
    assert (got - expected).norm() <= 0.25 * (expected - fp32).norm()
