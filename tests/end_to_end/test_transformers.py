"""Transformers, whole: linears and attention in int8, nothing in PyTorch, as near to the quantized model as can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import lower86
from lower86 import X86Quantizer
from lower86.frontend.export import export_module
from lower86.graph.text import text_of
from lower86.normalize import normalize
from lower86.runtime import code_cache
from tests.artifact.round_trip import again, agrees
from tests.models import transformer
from tests.models.checks import lower
from tests.models.counting import int8_macs
from tests.models.noise import distance, floor
from tests.models.quantized import inductors, quantize

CASES = [
    *((name, X86Quantizer) for name in transformer.ARCHITECTURES),
    *((name, inductors) for name in ("vit-s16", "swin-tiny", "t5-encoder", "whisper-tiny")),
]


def are_near(lowered: nn.Module, quantized: GraphModule, model: nn.Module, inputs: list[transformer.Inputs]) -> None:
    """Whether the lowered model is, on average, as near to the quantized one as can be asked of it."""
    with torch.no_grad():
        wanted = [quantized(*given) for given in inputs]
        own = [distance(got, model(*given)) for got, given in zip(wanted, inputs, strict=True)]
    far = [distance(lowered(*given), got) for given, got in zip(inputs, wanted, strict=True)]
    assert sum(far) <= sum(own) / 4 or sum(far) / len(far) <= 1.3 * floor(quantized, inputs, (-2, -1, 1, 2))


@pytest.mark.parametrize(("name", "quantizer"), CASES, ids=[f"{name}, {make.__name__}" for name, make in CASES])
def test_network(name: str, quantizer: Any, tmp_path: Path) -> None:
    model, inputs = transformer.load(name, small=True), transformer.inputs(name, 3, small=True)
    quantized = quantize(model, inputs[0], quantizer=quantizer())
    lowered = lower(quantized, *inputs[0])
    explanation = lower86.explain(lowered)
    macs = int8_macs(quantized, *inputs[0])
    assert sum(record.macs for record in explanation.operators) == sum(macs.values()) > 0
    assert explanation.int8_fraction == 1
    assert (explanation.foreign, explanation.regions) == ((), 1)
    are_near(lowered, quantized, model, inputs)
    agrees(lowered, again(lowered, tmp_path), *inputs[1])


DYNAMIC = {"bert-base": True, "gpt2": True, "t5-encoder": True, "vit-s16": False}
"""Whether the sequence varies, too, and not only the batch."""


@pytest.mark.parametrize("name", DYNAMIC)
def test_all_sizes_in_one_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (example, longest) = transformer.load(name, small=True), transformer.inputs(name, 2, small=True, batch=5)
    batch, length = torch.export.Dim("batch", min=1, max=8), torch.export.Dim("length", min=1, max=32)
    dims = {0: batch, 1: length} if DYNAMIC[name] else {0: batch}
    shapes = (tuple(dims for _ in example),)
    quantized = quantize(model, example, quantizer=X86Quantizer(), dynamic_shapes=shapes)
    lowered = lower(quantized, *example)
    explanation = lower86.explain(lowered)
    assert explanation.int8_fraction == 1
    assert (explanation.foreign, explanation.regions) == ((), 1)
    monkeypatch.delattr(code_cache, "compile_kernel")
    sizes = [(1, 24), (5, 1), (3, 17)] if DYNAMIC[name] else [(n, 64) for n in (1, 3, 4)]
    are_near(lowered, quantized, model, [tuple(x[:a, :b].contiguous() for x in longest) for a, b in sizes])


@pytest.mark.parametrize("name", ["bert-base", "swin-tiny", "gpt2", "t5-encoder"])
def test_attention_is_one_operator_however_written(name: str) -> None:
    (inputs,) = transformer.inputs(name, 1, small=True, batch=2)
    counts = []
    for attention in ("sdpa", "eager"):
        module = export_module(transformer.load(name, small=True, attention=attention), inputs)
        normalize(module)
        assert "softmax" not in text_of(module)
        counts.append(text_of(module).count("scaled_dot_product_attention("))
    assert counts == ([3, 3] if name == "swin-tiny" else [2, 2])
