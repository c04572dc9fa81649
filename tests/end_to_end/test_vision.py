"""Convolutional networks, whole: all of them in int8, nothing in PyTorch, as near to the quantized model as can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lower86
from lower86 import X86Quantizer
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


@pytest.mark.parametrize(("name", "quantizer"), CASES, ids=[f"{name}, {make.__name__}" for name, make in CASES])
def test_network(name: str, quantizer: Any, tmp_path: Path) -> None:
    model, images = vision.load(name, SIZE), torch.randn(4, 1, 3, SIZE, SIZE)
    quantized = quantize(model, (images[0],), quantizer=quantizer())
    lowered = lower(quantized, images[0])
    explanation = lower86.explain(lowered)
    assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, images[0]).values())
    assert (explanation.int8_fraction, explanation.foreign, explanation.regions) == (1, (), 1)
    with torch.no_grad():
        wanted = [quantized(image) for image in images]
        own = [distance(got, model(image)) for got, image in zip(wanted, images, strict=True)]
    far = [distance(lowered(image), got) for image, got in zip(images, wanted, strict=True)]
    assert sum(far) / len(far) <= max(sum(own) / len(own) / 4, 1.3 * floor(quantized, [(image,) for image in images]))
    agrees(lowered, again(lowered, tmp_path), images[1])
    if name == "resnet-50":
        # A byte for each weight, a float for each of the rest: batch norms and biases.
        needed = sum(p.numel() if p.dim() > 1 else p.nbytes for p in model.parameters())
        assert (tmp_path / "model.safetensors").stat().st_size <= 1.05 * needed


@pytest.mark.parametrize("name", vision.ARCHITECTURES)
def test_every_layer_on_the_quantized_models_own_values(name: str) -> None:
    model, (example, image) = vision.load(name, SIZE), torch.randn(2, 1, 3, SIZE, SIZE)
    quantized = quantize(model, (example,), quantizer=X86Quantizer())
    layers, given = cut(quantized, image)
    *activations, result = lower(layers, image, *given)(image, *given)
    for got, wanted in zip(activations, given, strict=True):
        steps = (got.int() - wanted.int()).abs()
        assert steps.max() <= 1
        assert steps.count_nonzero() <= max(1, 0.001 * steps.numel())
    with torch.no_grad():
        assert distance(result, quantized(image)) <= min(1e-5, distance(quantized(image), model(image)) / 4)
