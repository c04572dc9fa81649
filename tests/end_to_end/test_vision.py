"""Convolutional networks, whole: all of them in int8, nothing in PyTorch, as near to the quantized model as can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
from torch import Tensor
from torch.fx import GraphModule, Interpreter

import lower86
from lower86 import X86Quantizer
from tests.models import vision
from tests.models.checks import lower
from tests.models.counting import int8_macs
from tests.models.cut import cut
from tests.models.quantized import quantize

SIZE = 64


def inductors() -> Any:
    """torchao's own quantizer for x86."""
    quantizer = xiq.X86InductorQuantizer()
    return quantizer.set_global(xiq.get_default_x86_inductor_quantization_config())


class Nudged(Interpreter):
    """The same model, its contractions one bit further: what another order of additions may give."""

    def __init__(self, model: GraphModule, bits: int) -> None:
        super().__init__(model)
        self.factor = 1 + bits * 2.0**-23

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, args, kwargs)
        return result * self.factor if "conv" in str(target) or "linear" in str(target) else result


def distance(a: Tensor, b: Tensor) -> float:
    """How far a is from b, relative to b."""
    return ((a - b).norm() / b.norm()).item()


CASES = [
    *((name, X86Quantizer) for name in vision.ARCHITECTURES),
    ("resnet-18", inductors),
    ("mobilenet-v2", inductors),
]


@pytest.mark.parametrize(("name", "quantizer"), CASES, ids=[f"{name}, {make.__name__}" for name, make in CASES])
def test_network(name: str, quantizer: Any) -> None:
    model, images = vision.load(name, SIZE), torch.randn(4, 1, 3, SIZE, SIZE)
    quantized = quantize(model, (images[0],), quantizer=quantizer())
    lowered = lower(quantized, images[0])
    explanation = lower86.explain(lowered)
    assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, images[0]).values())
    assert (explanation.int8_fraction, explanation.foreign, explanation.regions) == (1, (), 1)
    with torch.no_grad():
        wanted = [quantized(image) for image in images]
        own = [distance(got, model(image)) for got, image in zip(wanted, images, strict=True)]
        nudged = [[Nudged(quantized, bits).run(image) for bits in (-1, 1)] for image in images]
    far = [distance(lowered(image), got) for image, got in zip(images, wanted, strict=True)]
    # A quarter of the quantization's own error. But one rounding that falls the other way, early in a deep network,
    # moves all the later ones: then it is as far as the model is from itself with other last bits.
    floor = max(distance(other, got) for got, others in zip(wanted, nudged, strict=True) for other in others)
    assert sum(far) / len(far) <= max(sum(own) / len(own) / 4, 1.3 * floor)


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
