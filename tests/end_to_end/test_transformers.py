"""Transformers, whole: every linear in int8, nothing in PyTorch, as near to the quantized model as can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lower86
from lower86 import X86Quantizer
from lower86.frontend.export import export_module
from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models import transformer
from tests.models.checks import lower_anyhow
from tests.models.counting import int8_macs
from tests.models.noise import distance, floor
from tests.models.quantized import inductors, quantize

CASES = [
    *((name, X86Quantizer) for name in transformer.ARCHITECTURES),
    # torchao's quantizer leaves the `addmm` of GPT-2 in float.
    *((name, inductors) for name in transformer.ARCHITECTURES if name != "gpt2"),
]


@pytest.mark.parametrize(("name", "quantizer"), CASES, ids=[f"{name}, {make.__name__}" for name, make in CASES])
def test_network(name: str, quantizer: Any) -> None:
    model, inputs = transformer.load(name, small=True), transformer.inputs(name, 4, small=True)
    quantized = quantize(model, inputs[0], quantizer=quantizer())
    lowered = lower_anyhow(quantized, *inputs[0])
    explanation = lower86.explain(lowered)
    macs = int8_macs(quantized, *inputs[0])
    assert sum(record.macs for record in explanation.operators) == sum(macs.values()) > 0
    assert {record.operator for record in explanation.refused} <= {"matmul"}  # products of two activations
    assert (explanation.foreign, explanation.regions) == ((), 1)
    with torch.no_grad():
        wanted = [quantized(*given) for given in inputs]
        own = [distance(got, model(*given)) for got, given in zip(wanted, inputs, strict=True)]
    far = [distance(lowered(*given), got) for given, got in zip(inputs, wanted, strict=True)]
    assert sum(far) / len(far) <= max(sum(own) / len(own) / 4, 1.3 * floor(quantized, inputs))


@pytest.mark.parametrize("name", transformer.ARCHITECTURES)
def test_attention_is_one_operator_however_written(name: str) -> None:
    (inputs,) = transformer.inputs(name, 1, small=True, batch=2)
    counts = []
    for attention in ("sdpa", "eager"):
        module = export_module(transformer.load(name, small=True, attention=attention), inputs)
        normalize(module)
        assert "softmax" not in text_of(module)
        counts.append(text_of(module).count("scaled_dot_product_attention("))
    assert counts == ([4, 4] if name == "swin-tiny" else [2, 2])
