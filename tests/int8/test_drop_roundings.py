"""What a model in bf16 quantizes right after a contraction is not rounded to bf16 before; what others read is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.graph.arguments import arguments
from lower86.graph.qparams import is_plain_quantize
from lower86.lowered import LoweredModule
from lower86.ops.linear import int8_linear
from tests.int8.test_siblings import Attention, products
from tests.models.checks import lower
from tests.models.quantized import quantize

BF16 = torch.bfloat16
A = torch.ops.aten
Use = Callable[[Tensor, Tensor, Any], Any]


class Model(nn.Module):
    """`use` of a linear's result and its input, then another linear, in bf16."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.first, self.second, self.use = nn.Linear(16, 16), nn.Linear(16, 16), use

    def forward(self, x: Tensor) -> Any:
        return self.use(self.first(x), x, self.second)


DROPPED: dict[str, Use] = {
    "at once": lambda y, x, then: then(y),
    "relu": lambda y, x, then: then(torch.relu(y)),
    "gelu": lambda y, x, then: then(nn.functional.gelu(y)),
    "residual": lambda y, x, then: then(torch.relu(y + x)),
    "gate": lambda y, x, then: then(nn.functional.silu(y) * x),
}
KEPT: dict[str, Use] = {
    "read by others": lambda y, x, then: (then(torch.relu(y)), torch.relu(y) + y),
    "softmax": lambda y, x, then: then(torch.softmax(y, -1)),
}


def roundings(lowered: LoweredModule) -> int:
    """How many contractions are rounded before anything else is done with them."""
    nodes = [node for node in lowered.graph.nodes if node.target is A._to_copy.default]
    return sum(node.args[0].target is int8_linear for node in nodes)


def run(use: Use) -> LoweredModule:
    x = torch.randn(9, 16).to(BF16)
    quantized = quantize(Model(use).to(BF16), (x,))
    lowered = lower(quantized, x)
    assert lower86.explain(lowered).foreign == ()
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), quantized(x), rtol=2**-6, atol=2**-5)
        torch.testing.assert_close(lowered(x), lowered.run_reference(x), rtol=2**-6, atol=2**-6)
    return lowered


@pytest.mark.parametrize("use", DROPPED)
def test_dropped(use: str) -> None:
    assert roundings(run(DROPPED[use])) == 1  # the second linear's, which is returned


@pytest.mark.parametrize("use", KEPT)
def test_kept(use: str) -> None:
    assert roundings(run(KEPT[use])) == 2


def test_scales_fold_into_the_contraction() -> None:
    lowered = run(DROPPED["relu"])
    scales = [arguments(node)["scale"] for node in lowered.graph.nodes if is_plain_quantize(node)]
    assert scales[1:] == [1.0]


def test_siblings_behind_a_cast_are_one_contraction() -> None:
    x = torch.randn(2, 7, 32).to(BF16)
    quantized = quantize(Attention().to(BF16), (x,))
    lowered = lower(quantized, x)
    assert products(lowered) == 1
    assert [r.node for r in lower86.explain(lowered).operators] == ["linear", "linear_1", "linear_2"]
    assert "None" not in str(lower86.explain(lowered))
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), quantized(x), rtol=2**-6, atol=2**-5)
