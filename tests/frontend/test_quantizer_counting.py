"""The independent count on models counted by hand; and what lower86 lowers of what X86Quantizer annotates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from tests.frontend.test_quantizer import PRODUCTS, Merged, Product, Shared, quantize
from tests.frontend.test_quantizer_transformers import bert
from tests.models.checks import lower, lower_anyhow, near
from tests.models.counting import int8_macs
from tests.models.qdq import U8, Linear, grid
from tests.models.quantized import quantize as quantize_by_torchao


class Function(nn.Module):
    """A function of tensors that are quantized first."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*(U8(tensor) for tensor in tensors))


COUNTED: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...], int]] = {
    "linear": (nn.functional.linear, ((2, 5, 7), (3, 7)), 2 * 5 * 7 * 3),
    "addmm": (lambda b, x, w: torch.addmm(b, x, w), ((3,), (5, 7), (7, 3)), 5 * 7 * 3),
    "broadcast": (torch.matmul, ((4, 1, 5, 7), (2, 7, 3)), 4 * 2 * 5 * 7 * 3),
    "vectors": (torch.matmul, ((7,), (7,)), 7),
    "conv1d": (lambda x, w: nn.functional.conv1d(x, w, stride=2), ((2, 4, 9), (6, 4, 3)), 2 * 6 * 4 * (4 * 3)),
    "padded": (lambda x, w: nn.functional.conv2d(x, w, padding=1), ((1, 4, 5, 5), (6, 4, 3, 3)), 6 * 25 * 36),
    "groups": (lambda x, w: nn.functional.conv2d(x, w, groups=2), ((1, 4, 5, 5), (6, 2, 3, 3)), 6 * 9 * 18),
    "transposed": (nn.functional.conv_transpose2d, ((1, 4, 5, 5), (4, 6, 2, 2)), 4 * 25 * 6 * 4),
    "moved": (
        lambda x, y: x.transpose(0, 1)[1:].reshape(2, -1) @ y.flatten(0, 1).contiguous(),
        ((6, 3), (3, 2, 4)),
        48,
    ),
    "pieces": (lambda x, y: x.chunk(2, 1)[1] @ torch.split(y, 2)[0].clone(), ((5, 4), (4, 3)), 5 * 2 * 3),
    "one operand computed": (lambda x, y: torch.relu(x) @ y, ((5, 4), (4, 3)), 0),
    "one operand scaled": (lambda x, y: x @ (y * 2), ((5, 4), (4, 3)), 0),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counted_by_hand(name: str) -> None:
    function, shapes, expected = COUNTED[name]
    tensors = tuple(torch.rand(shape) for shape in shapes)
    graph = torch.export.export(Function(function), tensors).module()
    assert sum(int8_macs(graph, *tensors).values()) == expected


def test_weights_and_several_contractions() -> None:
    model, x = nn.Sequential(Linear(20, 12), nn.ReLU(), Linear(12, 5)), grid(7, 20)
    graph = torch.export.export(model, (x,)).module()
    assert list(int8_macs(graph, x).values()) == [7 * 20 * 12, 7 * 12 * 5]


class Mlp(nn.Sequential):
    """A perceptron on rows of rows."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8, bias=False))


LINEARS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], QuantizationConfig]] = {
    "mlp": (Mlp, (3, 5, 16), QuantizationConfig()),
    "symmetric": (Mlp, (3, 5, 16), QuantizationConfig(symmetric_activations=True, reduce_range=True)),
    "one scale": (Mlp, (3, 5, 16), QuantizationConfig(per_channel_weights=False)),
    "dynamic": (Mlp, (3, 5, 16), QuantizationConfig.dynamic()),
    "shared": (Shared, (5, 8), QuantizationConfig()),
    **{name: (*PRODUCTS[name][:2], QuantizationConfig()) for name in ("addmm", "mm", "matmul", "transposed")},
}


@pytest.mark.parametrize("name", LINEARS)
def test_all_linears_are_lowered_and_explain_counts_the_same(name: str) -> None:
    make, shape, config = LINEARS[name]
    x = torch.randn(shape)
    quantized = quantize(make(), x, quantizer=X86Quantizer().set_global(config), bound=0.1)
    lowered = lower(quantized, x)
    explanation = lower86.explain(lowered)
    assert sorted(record.macs for record in explanation.operators) == sorted(int8_macs(quantized, x).values())
    assert explanation.int8_fraction == 1
    with torch.no_grad():
        expected = quantized(x)
    assert float((lowered(x) - expected).norm() / expected.norm()) < 0.02


def test_the_count_of_torchaos_own_quantizer() -> None:
    model, x = Mlp(), torch.randn(5, 16)
    quantized = quantize_by_torchao(model, (x,))
    assert sum(int8_macs(quantized, x).values()) == sum(r.macs for r in lower86.explain(lower(quantized, x)).operators)


def test_bert_counts_the_same() -> None:
    """Also what does not run in int8 yet is counted by both."""
    ids, mask = torch.randint(0, 50, (2, 8)), torch.ones(2, 8, dtype=torch.int64)
    quantized = quantize(bert(pooler=False), ids, mask)
    lowered = lower_anyhow(quantized, ids, mask)
    counted = int8_macs(quantized, ids, mask)
    assert sorted(r.macs for r in lower86.explain(lowered).operators) == sorted(counted.values())
    with torch.no_grad():
        expected = quantized(ids, mask)
    assert float((lowered(ids, mask) - expected).norm() / expected.norm()) < 0.02


def test_what_lies_between_convolutions_still_runs() -> None:
    x = torch.randn(2, 3, 4, 4)
    quantized = quantize(Merged(), x)
    lowered = lower_anyhow(quantized, x)
    with torch.no_grad():
        near(lowered(x).detach(), quantized(x))
    counted = int8_macs(quantized, x)
    assert sorted(r.macs for r in lower86.explain(lowered).operators) == sorted(counted.values())


def test_a_model_without_anything_to_count() -> None:
    model = Product(lambda x, w, b: x[:, :6] + b, 8, 6)
    graph = torch.export.export(model, (torch.randn(5, 8),)).module()
    assert int8_macs(graph, torch.randn(5, 8)) == {}
