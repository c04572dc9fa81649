"""Rounding in place of observers gives what the converted graph gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86 import QuantizationConfig, X86Quantizer
from lower86.frontend import torchao
from lower86.quantization.simulate import simulated
from lower86.quantization.watch import run
from tests.models.quantized import inductors
from tests.models.small import MLP, Attention, Embedding
from tests.quantization.prepared import settled


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _own(config: QuantizationConfig) -> X86Quantizer:
    return X86Quantizer().set_global(config)


QUANTIZERS: dict[str, Any] = {
    "static": lambda: _own(QuantizationConfig.static()),
    "symmetric": lambda: _own(QuantizationConfig.static(symmetric_activations=True)),
    "seven bits, one scale": lambda: _own(QuantizationConfig.static(reduce_range=True, per_channel_weights=False)),
    "dynamic": lambda: _own(QuantizationConfig.dynamic()),
    "dynamic, symmetric": lambda: _own(QuantizationConfig.dynamic(symmetric_activations=True)),
    "a token": lambda: _own(QuantizationConfig.dynamic(per_token=True)),
    "a token, symmetric": lambda: _own(QuantizationConfig.dynamic(per_token=True, symmetric_activations=True)),
    "torchao's own": inductors,
}
MODELS: dict[str, tuple[type[nn.Module], tuple[Tensor, ...]]] = {
    "linears": (MLP, (torch.randn(3, 16),)),
    "a table": (Embedding, (torch.randint(0, 50, (2, 8)),)),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize(("kind", "call"), MODELS.values(), ids=MODELS)
def test_as_the_converted_graph(kind: type[nn.Module], call: tuple[Tensor, ...], quantizer: Any) -> None:
    graph, _ = settled(kind(), [call], quantizer())
    with simulated(graph):
        (got,) = run(graph, call)
    torch.testing.assert_close(got, torchao.convert(graph)(*call), rtol=1e-4, atol=1e-4)


def test_attention_with_a_mask_and_sixteen_bits() -> None:
    mask = torch.ones(1, 6, dtype=torch.bool)
    call: tuple[Tensor, ...] = (torch.randn(1, 6, 16), mask)
    graph, _ = settled(Attention(), [call])
    with simulated(graph):
        (got,) = run(graph, call)
    torch.testing.assert_close(got, torchao.convert(graph)(*call), rtol=1e-4, atol=1e-4)
    call = (torch.randn(3, 16).bfloat16(),)
    for make in (QUANTIZERS["static"], QUANTIZERS["a token"]):
        graph, _ = settled(MLP().bfloat16(), [call], make())
        with simulated(graph):
            (got,) = run(graph, call)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, torchao.convert(graph)(*call), rtol=0, atol=0.05)
