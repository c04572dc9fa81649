"""Layers that are given back to bf16 compute what PyTorch does with operands of bf16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.frontend import torchao
from lower86.quantization.quantize import accept, settled
from lower86.quantization.recipe import recipe_of
from lower86.tuning.layers import layers_of
from lower86.tuning.narrow import can_be_narrow, narrowed
from lower86.tuning.variant import floated
from tests.models.checks import lower_anyhow
from tests.models.small import Attention


class Mixed(nn.Module):
    """A convolution without bias, a linear with one, and a linear that stays int8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Linear(8, 24)
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.wide(torch.relu(self.conv(x)).mean((2, 3)))))


def variant(model: nn.Module, inputs: Any, names: set[str]) -> Any:
    given = accept(model, inputs, None, None, 300, None)
    prepared, _ = settled(given, recipe_of("fast"), (), None, False, 0)
    layers = [layer for layer in layers_of(prepared) if layer.name in names]
    assert len(layers) == len(names)
    return torchao.convert(narrowed(floated(prepared, layers), layers))


def in_bf16(layer: nn.Module, x: Tensor) -> Tensor:
    tensors = {name: tensor.bfloat16() for name, tensor in layer.named_parameters()}
    result: Tensor = torch.func.functional_call(layer, tensors, (x.bfloat16(),))
    return result.float()


def test_as_pytorch_computes_it() -> None:
    model, inputs = Mixed().eval(), [torch.randn(2, 3, 6, 6) for _ in range(4)]
    quantized = variant(model, inputs, {"conv", "wide"})
    lowered = lower_anyhow(quantized, inputs[0])
    explanation = lower86.explain(lowered)
    assert (explanation.int8_fraction, explanation.foreign) == (1, ())
    assert [record.module for record in explanation.operators] == ["last"]
    with torch.no_grad():
        for x in inputs:
            hidden = torch.relu(in_bf16(model.wide, torch.relu(in_bf16(model.conv, x)).mean((2, 3))))
            wanted = model.last(hidden)
            scale = float(wanted.abs().max())
            for got in (quantized(x), lowered(x)):
                assert float((got - wanted).abs().max()) < 0.05 * scale
            assert float((quantized(x) - lowered(x)).abs().max()) < 0.02 * scale


def test_products_and_narrow_models_are_left_alone() -> None:
    model = Attention().eval()
    inputs = [(torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)) for _ in range(2)]
    given = accept(model, inputs, None, None, 300, None)
    prepared, _ = settled(given, recipe_of("fast"), (), None, False, 0)
    products = [layer for layer in layers_of(prepared) if layer.kind == "products"]
    assert products
    assert not can_be_narrow(products)
    changed = narrowed(floated(prepared, products), products)
    assert not [node for node in changed.graph.nodes if node.target is torch.ops.aten.to.dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_a_model_of_bf16_has_it_already(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(16, 8)).to(dtype).eval()
    inputs = [torch.randn(4, 16).to(dtype) for _ in range(2)]
    given = accept(model, inputs, None, None, 300, None)
    prepared, _ = settled(given, recipe_of("fast"), (), None, False, 0)
    layers = layers_of(prepared)
    changed = narrowed(floated(prepared, layers), layers)
    assert not [node for node in changed.graph.nodes if node.target is torch.ops.aten.to.dtype]
