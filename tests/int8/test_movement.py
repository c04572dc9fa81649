"""Quantized values that are moved in several ways at once: every reader gets integers, every linear becomes int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from tests.models.checks import agree, lower, lower_anyhow, near
from tests.models.qdq import S8, Linear, grid
from tests.models.quantized import quantize

Function = Callable[[Callable[[Tensor], Tensor], Tensor], Any]


class Moved(nn.Module):
    """A function of a quantized linear (without its own quantize) and of a dequantized input."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function, self.linear = function, Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.function(lambda y: nn.functional.linear(y, self.linear.dequantized()), S8(x))


def _two_movements(linear: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    y = x.permute(1, 0, 2)
    return linear(y.reshape(-1, 8)), y.permute(2, 1, 0) + 1


def _a_movement_and_arithmetic(linear: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    y = x.reshape(-1, 8)
    return linear(y), y.permute(1, 0) * 2


def _chain(linear: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    y = x.permute(1, 0, 2)
    z = y.permute(1, 0, 2).reshape(6, 8)
    return linear(z), z[1:], y.reshape(-1, 8).permute(1, 0), linear(y)


CASES: dict[str, tuple[Function, int]] = {
    "a movement and arithmetic": (_a_movement_and_arithmetic, 1),
    "two movements": (_two_movements, 1),
    "slices": (lambda linear, x: (linear(x.reshape(-1, 8)[:2]), linear(x.reshape(-1, 8)[2:])), 2),
    "no linear at all": (lambda linear, x: (x.reshape(-1, 8).permute(1, 0), x.reshape(-1, 8)), 0),
    "a chain": (_chain, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_readers_of_moved_values(name: str) -> None:
    function, count = CASES[name]
    model, x = Moved(function), grid(2, 3, 8)
    lowered = lower_anyhow(model, x)
    agree(model, lowered, x)
    operators = lower86.explain(lowered).operators
    assert len(operators) == count
    assert all(operator.is_int8 for operator in operators)


def test_sizes_that_are_multiples_of_a_dim() -> None:
    half = torch.export.Dim("half", min=1, max=64)
    model, x = Linear(8, 8), grid(6, 8)
    lowered = lower(model, x, dynamic_shapes=({0: 2 * half},))
    for rows in (2, 4, 10):
        agree(model, lowered, grid(rows, 8))
    with pytest.raises(lower86.InputError):
        lowered(grid(7, 8))


@pytest.mark.parametrize(
    "equation", ["bsd,ed->bse", "bsd,de->bse", "bsd,btd->bst", "bsd->bds", "bij,bjk,bkl->bil"], ids=str
)
def test_einsum_is_products_and_movement(equation: str) -> None:
    operands = equation.split("->")[0].split(",")
    sizes = {"b": 2, "s": 5, "d": 8, "e": 6, "t": 5, "i": 3, "j": 4, "k": 5, "l": 6}
    inputs = [torch.randn([sizes[letter] for letter in letters]) for letters in operands]

    class Einsum(nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return torch.einsum(equation, *tensors)

    lowered = lower_anyhow(Einsum(), *inputs)
    assert lower86.explain(lowered).foreign == ()
    agree(Einsum(), lowered, *inputs, compare=near)


def test_a_learned_query_against_a_joint_projection() -> None:
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.probe, self.attention = (
                nn.Parameter(torch.randn(1, 1, 16)),
                nn.MultiheadAttention(16, 2, batch_first=True),
            )

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(self.probe.expand(x.shape[0], 1, 16), x, x, need_weights=False)[0]
            return y

    x = torch.randn(3, 5, 16)
    quantized = quantize(Pool(), (x,), quantizer=lower86.X86Quantizer())
    lowered = lower_anyhow(quantized, x)
    assert all(r.is_int8 for r in lower86.explain(lowered).operators if r.operator == "linear")


def test_an_empty_example_of_dynamic_quantization_is_refused_in_words() -> None:
    x = torch.randn(4, 16)
    quantizer = lower86.X86Quantizer().set_global(lower86.QuantizationConfig.dynamic())
    quantized = quantize(nn.Sequential(nn.Linear(16, 16)), (x,), quantizer=quantizer)
    with pytest.raises(lower86.Lower86Error, match=r"(?s)cannot be (computed|exported)"):
        lower_anyhow(quantized, x[:0])


def test_a_linear_of_narrower_floats_is_int8_in_between() -> None:
    x = torch.randn(64, 16, dtype=torch.bfloat16)
    quantized = quantize(nn.Sequential(nn.Linear(16, 16)).bfloat16(), (x,))
    lowered = lower_anyhow(quantized, x)
    explanation = lower86.explain(lowered)
    assert explanation.int8_fraction == 1
    assert "lower86::int8_linear" not in [f.operator for f in explanation.foreign]
    assert lowered(x).dtype == lowered.run_reference(x).dtype == torch.bfloat16
    assert torch.equal(lowered(x), lowered.run_reference(x))  # the reference quantizes in float32, as PyTorch does
    torch.testing.assert_close(lowered(x), quantized(x), rtol=2e-2, atol=2e-2)  # which multiplies in bfloat16
