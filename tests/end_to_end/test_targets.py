"""One model, one result: the same bits on every instruction set and with every number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import lower86
from lower86.codegen.llvm import host_features
from lower86.codegen.target import LEVELS
from tests.models.checks import lower_anyhow, same
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention, Embedding

HERE = [level for level, needs in LEVELS.items() if all(host_features().get(need) for need in needs)]


class Wide(nn.Module):
    """Linears of odd sizes with every kind of glue: norms, softmax, gelu, reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(67, 131), nn.Linear(131, 67)
        self.norm = nn.LayerNorm(67)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.norm(x + self.down(nn.functional.gelu(self.up(x))))
        return torch.softmax(y, -1), y.mean(1), nn.functional.silu(y).amax(0), torch.sigmoid(y) * torch.tanh(x)


MODELS: dict[str, tuple[type[nn.Module], tuple[Any, ...]]] = {
    "mlp": (MLP, (torch.randn(9, 16),)),
    "attention": (Attention, (torch.randn(3, 70, 16), torch.arange(210).view(3, 70) % 70 < 61)),
    "embedding": (Embedding, (torch.randint(0, 50, (5, 8)),)),
    "wide": (Wide, (torch.randn(5, 7, 67),)),
}


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    yield
    lower86.set_num_threads(None)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits_everywhere(name: str, dynamic: bool) -> None:
    kind, inputs = MODELS[name]
    config = lower86.QuantizationConfig.dynamic(per_token=True) if dynamic else lower86.QuantizationConfig.static()
    attention = torch.nn.functional.scaled_dot_product_attention
    quantizer = lower86.X86Quantizer().set_global(config).set_function_type(attention, None)
    quantized = quantize(kind(), inputs, quantizer=quantizer)
    results = []
    for level in HERE:
        lowered = lower_anyhow(quantized, *inputs, target=level)
        assert lower86.explain(lowered).foreign == ()
        for threads in (1, 2, 5):
            lower86.set_num_threads(threads)
            results.append(lowered(*inputs))
    for other in results[1:]:
        same(other, results[0])
