"""Convolutional networks, whole: all of them in int8, nothing in PyTorch, as near to the quantized model as can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import lower86
from lower86 import X86Quantizer
from lower86.codegen.target import resolve_target
from lower86.frontend.export import export_module
from lower86.lowered import report_fallbacks
from lower86.lowering import lower_exported
from tests.artifact.round_trip import again, agrees
from tests.models import vision
from tests.models.checks import lower
from tests.models.counting import int8_macs
from tests.models.cut import cut
from tests.models.noise import distance, floor
from tests.models.quantized import inductors, quantize

SIZE = 64


CASES = [
    *((name, X86Quantizer) for name in vision.ARCHITECTURES),
    ("resnet-18", inductors),
    ("mobilenet-v2", inductors),
]


Network = tuple[str, nn.Module, Tensor, GraphModule]


@pytest.fixture(scope="module", params=CASES, ids=[f"{name}, {make.__name__}" for name, make in CASES])
def network(request: pytest.FixtureRequest) -> Network:
    """Its name, the network, images, and the network quantized on the first of them."""
    name, quantizer = request.param
    model, images = vision.load(name, SIZE), torch.randn(4, 1, 3, SIZE, SIZE)
    return name, model, images, quantize(model, (images[0],), quantizer=quantizer())


def test_network(network: Network, tmp_path: Path) -> None:
    name, model, images, quantized = network
    lowered = lower(quantized, images[0])
    explanation = lower86.explain(lowered)
    assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, images[0]).values())
    assert (explanation.int8_fraction, explanation.foreign, explanation.regions) == (1, (), 1)
    with torch.no_grad():
        wanted = [quantized(image) for image in images]
        own = [distance(got, model(image)) for got, image in zip(wanted, images, strict=True)]
    far = [distance(lowered(image), got) for image, got in zip(images, wanted, strict=True)]
    assert sum(far) <= sum(own) / 4 or sum(far) / len(far) <= 1.3 * floor(quantized, [(image,) for image in images])
    agrees(lowered, again(lowered, tmp_path), images[1])
    if name == "resnet-50":
        # A byte for each weight, a float for each of the rest: batch norms and biases.
        needed = sum(p.numel() if p.dim() > 1 else p.nbytes for p in model.parameters())
        assert (tmp_path / "model.safetensors").stat().st_size <= 1.05 * needed


@pytest.mark.parametrize("network", CASES[: len(vision.ARCHITECTURES)], ids=lambda case: case[0], indirect=True)
def test_every_layer_on_the_quantized_models_own_values(network: Network) -> None:
    _, model, (_, image, *_), quantized = network
    layers, given = cut(quantized, image)
    # Strict tracing has written this graph already; doing so once more, with hundreds of inputs, takes long.
    lowered = lower_exported(export_module(layers, (image, *given), strict=False), resolve_target(None))
    report_fallbacks(lowered, "raise")
    *activations, result = lowered(image, *given)
    for got, wanted in zip(activations, given, strict=True):
        steps = (got.int() - wanted.int()).abs()
        assert steps.max() <= 1
        assert steps.count_nonzero() <= max(1, 0.001 * steps.numel())
    with torch.no_grad():
        assert distance(result, quantized(image)) <= min(1e-5, distance(quantized(image), model(image)) / 4)
