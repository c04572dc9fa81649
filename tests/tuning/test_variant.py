"""A layer that is given back to float is just what the quantizer would have left in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import lower86
from lower86.frontend import torchao
from lower86.quantization.quantize import accept, settled
from lower86.quantization.recipe import recipe_of
from lower86.tuning.layers import Layer, layers_of
from lower86.tuning.noise import Noises
from lower86.tuning.variant import floated
from tests.models.checks import lower_anyhow, near
from tests.models.quantized import inductors
from tests.models.small import Attention, Embedding


class _Convolutional(nn.Module):
    """A residual block, a pool, movement, a linear with a name of its own and one without."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.pooled = pooled
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.second, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 3 * 3, 6)
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))
        x = self.head((nn.functional.max_pool2d(x, 2) if self.pooled else x[:, :, ::2, ::2]).flatten(1))
        return nn.functional.linear(torch.tanh(x), self.weight)


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells, self.head = kind(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cells(x)
        return self.head(states)


def _settled(model: nn.Module, inputs: Sequence[Any], recipe: str, quantizer: Any = None) -> GraphModule:
    given = accept(model, inputs, None, None, 300, None)
    return settled(given, recipe_of(recipe), (), quantizer, False, 0)[0]


def _images() -> list[Tensor]:
    return [torch.randn(2, 3, 6, 6) for _ in range(4)]


def _targets(graph: GraphModule) -> Counter[str]:
    return Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_function")


CASES = {
    "convolutional": (_Convolutional, _images),
    "attention": (Attention, lambda: [(torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)) for _ in range(3)]),
    "embedding": (Embedding, lambda: [torch.randint(0, 50, (2, 8)) for _ in range(3)]),
    "LSTM": (lambda: _Recurrent(nn.LSTM), lambda: [torch.randn(2, 5, 8) for _ in range(3)]),
    "GRU": (lambda: _Recurrent(nn.GRU), lambda: [torch.randn(2, 5, 8) for _ in range(3)]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_as_if_it_had_been_ignored(case: str) -> None:
    model, inputs = CASES[case][0]().eval(), CASES[case][1]()
    example = inputs[0] if isinstance(inputs[0], tuple) else (inputs[0],)
    prepared = _settled(model, inputs, "fast")
    before = str(prepared.graph)
    for layer in layers_of(prepared):
        if layer.kind == "products" or not layer.module:
            continue  # a part of its module has no name to ignore it by
        variant = torchao.convert(floated(prepared, [layer]))
        ignoring = lower86.quantize(model, inputs, recipe="fast", ignored=[layer.name], progress=False)
        if layer.kind != "recurrent":  # which an ignored one is not spelled out as
            assert _targets(variant) == _targets(ignoring), layer.name
        near(variant(*example), ignoring(*example))
    assert str(prepared.graph) == before


def test_layers_are_the_users_modules() -> None:
    model = Attention().eval()
    prepared = _settled(model, CASES["attention"][1](), "fast")
    kinds = {layer.name: (layer.kind, len(layer.nodes)) for layer in layers_of(prepared)}
    linears = {name: kind for name, kind in kinds.items() if kind[0] == "linear"}
    assert linears == dict.fromkeys(("q", "k", "v", "out"), ("linear", 1))
    assert [kind for kind in kinds.values() if kind[0] != "linear"] == [("products", 2)]
    cells = _settled(_Recurrent(nn.LSTM).eval(), CASES["LSTM"][1](), "fast")
    assert [(layer.name, len(layer.nodes)) for layer in layers_of(cells)] == [("cells", 2), ("head", 1)]


@pytest.mark.parametrize("case", CASES)
def test_all_in_float_is_the_float_model(case: str) -> None:
    """Corrected biases and smoothed weights included."""
    model, inputs = CASES[case][0]().eval(), CASES[case][1]()
    example = inputs[0] if isinstance(inputs[0], tuple) else (inputs[0],)
    prepared = _settled(model, inputs, "balanced")
    variant = torchao.convert(floated(prepared, layers_of(prepared)))
    assert not [name for name in _targets(variant) if "quantize" in name]
    with torch.no_grad():
        wanted = model(*example)
    torch.testing.assert_close(variant(*example), wanted, rtol=1e-4, atol=1e-5)
    lowered = lower_anyhow(variant, *example)
    assert lower86.explain(lowered).foreign == ()
    torch.testing.assert_close(lowered(*example), wanted, rtol=1e-4, atol=1e-5)


def test_another_quantizers_graph() -> None:
    model, images = _Convolutional(pooled=False).eval(), _images()
    prepared = _settled(model, images, "balanced", inductors())
    layers = layers_of(prepared)
    assert [layer.name for layer in layers][:4] == ["stem", "first", "second", "head"]
    with torch.no_grad():
        wanted = model(images[0])
    whole = torchao.convert(floated(prepared, layers))
    torch.testing.assert_close(whole(images[0]), wanted, rtol=1e-4, atol=1e-5)
    half = torchao.convert(floated(prepared, layers[:2]))
    assert (half(images[0]) - wanted).abs().max() < 0.2 * wanted.abs().max()


@pytest.mark.parametrize("recipe", ["fast", "balanced"])
def test_noise_is_that_of_the_layer_alone(recipe: str) -> None:
    model, images = _Convolutional().eval(), _images()
    with torch.no_grad():
        model.first.weight[0] *= 1e-4  # per channel, so it does not matter
        model.head.weight[:, 0] = 300.0  # one channel takes the whole scale
    prepared = _settled(model, images, recipe)
    layers = layers_of(prepared)
    noises = Noises(prepared, [[image] for image in images])
    found = {layer.name: noises.of(layer) for layer in layers}
    if recipe == "fast":
        assert min(found, key=lambda name: found[name]) == "head"
    for layer in layers[:2]:
        others = [other for other in layers if other is not layer]
        variant = torchao.convert(floated(prepared, others))
        with torch.no_grad():
            errors = [float((variant(x) - model(x)).square().sum() / model(x).square().sum()) for x in images]
        alone = -10 * torch.log10(torch.tensor(errors).mean())
        assert abs(float(alone) - found[layer.name]) < 0.5, layer.name
    assert noises.of(Layer("nothing", "", "linear", ())) == float("inf")
