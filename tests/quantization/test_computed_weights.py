"""Weights that are computed from parameters are quantized as if they were parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import lower86
from lower86.frontend.export import export_float
from lower86.quantization.computed_weights import hold_computed_weights
from tests.models.checks import near
from tests.models.counting import int8_macs


class _Computed(nn.Module):
    def __init__(self, apply: Callable[[Tensor, Tensor], Tensor], weight: Tensor) -> None:
        super().__init__()
        self.apply, self.weight = apply, nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply(x, self.weight)


def _twice(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(F.linear(x, weight), weight)


X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
W = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
CASES: dict[str, nn.Module] = {
    "turned by numpy's name": _Computed(lambda x, w: x @ w.T, W),
    "a convolution's, without a dim and with it": _Computed(
        lambda x, w: F.conv1d(x.mT, w[:, None].squeeze(1).unsqueeze(1), groups=8), torch.randn(8, 3)
    ),
    "scaled": _Computed(lambda x, w: F.linear(x, w * 0.3), W),
    "read twice": _Computed(lambda x, w: F.linear(x, w.T.contiguous().T) @ w.T.contiguous().T, W),
    "one weight of two layers": _Computed(lambda x, w: _twice(x, w * 0.3), W.mT @ W),
    "normalized": nn.Sequential(weight_norm(nn.Conv1d(3, 4, 3))),
    "a table": _Computed(lambda x, w: F.embedding((x[..., 0] > 0).long(), w / 2), W),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("recipe", ["fast", "balanced"])
def test_quantized_as_a_parameter(name: str, recipe: str) -> None:
    model = CASES[name].eval()
    before = [p.detach().clone() for p in model.parameters()]
    quantized = lower86.quantize(model, [(X,), (X.flip(0),)], recipe=recipe, progress=False)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (X,), on_fallback="ignore" if "table" in name else "raise")
    near(lowered(X), quantized(X))
    exact = model(X)
    assert (quantized(X) - exact).norm() < 0.05 * exact.norm()
    assert any(node.target is torch.ops.aten.embedding.default for node in quantized.graph.nodes) or int8_macs(
        quantized, X
    )
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def _graph(model: nn.Module) -> Any:
    graph = export_float(model.eval(), (X,), {})
    before = graph(X)
    hold_computed_weights(graph)
    near(graph(X), before)
    return graph


def test_they_become_constants_of_their_own() -> None:
    model = _Computed(lambda x, w: x @ w.T + w.T.sum(), W)
    graph = _graph(model)
    (product,) = [node for node in graph.graph.nodes if node.target is torch.ops.aten.matmul.default]
    held = getattr(graph, str(product.args[1].target))
    held.mul_(2)
    assert torch.equal(model.weight, W)
    assert any(node.target is torch.ops.aten.numpy_T.default for node in graph.graph.nodes)  # of what is no weight


class _Counted(nn.Module):
    """Its weight is not the same at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", W.clone())

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        self.weight.mul_(0.5)
        return y


def test_what_is_written_to_stays() -> None:
    graph = export_float(_Counted(), (X,), {})
    hold_computed_weights(graph)
    first, second = graph(X), graph(X)
    near(second, first / 2)
