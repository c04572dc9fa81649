"""Attention spelled out: the same function, all four operands quantized, whatever mask, heads and shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter

from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import convert, prepare
from tests.frontend.test_quantizer import A, is_read_quantized, nodes, quantize
from tests.models.counting import int8_macs, pairs

SDPA = A.scaled_dot_product_attention.default


class Attention(nn.Module):
    """Attention with fixed options."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, **self.options)


def operands(heads: int = 4, kept: int = 4, queries: int = 5, keys: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, heads, queries, 8), torch.randn(2, kept, keys, 8), torch.randn(2, kept, keys, 6)


def some_masked() -> Tensor:
    mask = torch.rand(2, 1, 5, 7) > 0.4
    mask[1, 0, 2] = False  # a row without keys
    return mask


CASES: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    "plain": (Attention(), operands()),
    "three dims": (Attention(), tuple(t[:, 0] for t in operands())),
    "scale": (Attention(scale=0.3), operands()),
    "boolean": (Attention(), (*operands(), some_masked())),
    "additive": (Attention(), (*operands(), torch.randn(5, 7).masked_fill(torch.rand(5, 7) > 0.8, -torch.inf))),
    "causal": (Attention(is_causal=True), operands()),
    "causal, more queries": (Attention(is_causal=True), operands(queries=9)),
    "grouped": (Attention(enable_gqa=True), operands(kept=2)),
    "grouped, one": (Attention(enable_gqa=True), operands(kept=1)),
    "grouped, none": (Attention(enable_gqa=True), operands(kept=4)),
    "grouped, boolean": (Attention(enable_gqa=True), (*operands(kept=2), some_masked())),
    "grouped, causal": (Attention(enable_gqa=True, is_causal=True), operands(kept=2)),
}


def largest_weight(spelled: GraphModule, inputs: tuple[Tensor, ...]) -> float:
    """The largest result of a graph's softmax."""
    largest: list[float] = []

    class Watching(Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            result = super().call_function(target, args, kwargs)
            if "softmax" in str(target):
                largest.append(result.max().item())
            return result

    Watching(spelled).run(*inputs)
    return max(largest)


@pytest.mark.parametrize("name", CASES)
def test_attention_spelled_out_and_quantized(name: str) -> None:
    model, inputs = CASES[name]
    graph = torch.export.export(model, inputs).module()
    assert isinstance(graph, GraphModule)
    spelled = X86Quantizer().transform_for_annotation(graph)
    assert not nodes(spelled, SDPA)
    expected = model(*inputs)
    torch.testing.assert_close(spelled(*inputs), expected)
    assert all("val" in node.meta for node in spelled.graph.nodes if node.op == "call_function")
    largest = largest_weight(spelled, inputs)
    prepared = prepare(spelled, X86Quantizer())
    prepared(*inputs)
    quantized = convert(prepared)
    assert float((quantized(*inputs) - expected).norm() / expected.norm()) < 0.05
    first, second = nodes(quantized, A.matmul.default)
    assert all(is_read_quantized(node, i) for node in (first, second) for i in (0, 1))
    assert second.args[0].args[1:3] == (pytest.approx(largest / 255), 0)
    assert pairs(quantized) == (4, 4)
    q, k, v = inputs[:3]
    macs = [q.numel() * k.shape[-2], q.numel() // 8 * k.shape[-2] * v.shape[-1]]
    assert list(int8_macs(quantized, *inputs).values()) == macs


def test_open_dims_stay_open() -> None:
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    inputs = tuple(torch.randn(2, 5, 4, 8).transpose(1, 2) for _ in range(3))
    graph = torch.export.export(
        Attention(is_causal=True), inputs, dynamic_shapes={name: {0: batch, 2: length} for name in "qkv"}
    ).module()
    assert isinstance(graph, GraphModule)
    spelled = X86Quantizer().transform_for_annotation(graph)
    assert not nodes(spelled, SDPA)
    for size in (2, 9):
        inputs = tuple(torch.randn(3, 4, size, 8) for _ in range(3))
        torch.testing.assert_close(spelled(*inputs), Attention(is_causal=True)(*inputs))


def test_dropout_in_training_and_attention_that_cannot_be_spelled() -> None:
    inputs = operands()
    graph = torch.export.export(Attention(dropout_p=0.5), inputs).module()
    assert isinstance(graph, GraphModule)
    (dropout,) = nodes(X86Quantizer().transform_for_annotation(graph), A.dropout.default)
    assert dropout.args[1:] == (0.5, True)
    inputs = tuple(t.double() for t in operands())
    graph = torch.export.export(Attention(), inputs).module()
    assert isinstance(graph, GraphModule)
    assert nodes(X86Quantizer().transform_for_annotation(graph), SDPA)


WHOLE = {
    "no attention": X86Quantizer().set_function_type(F.scaled_dot_product_attention, None),
    "no products": X86Quantizer().set_function_type(torch.matmul, None),
    "nothing": X86Quantizer().set_global(None),
    "dynamic": X86Quantizer().set_global(QuantizationConfig.dynamic()),
}


@pytest.mark.parametrize("name", WHOLE)
def test_attention_that_is_not_quantized_stays_whole(name: str) -> None:
    quantized = quantize(Attention(), *operands(), quantizer=WHOLE[name])
    assert len(nodes(quantized, SDPA)) == 1
    assert pairs(quantized) == (0, 0)


def test_attention_alone() -> None:
    quantizer = X86Quantizer().set_global(None).set_function_type(SDPA, QuantizationConfig())
    assert pairs(quantize(Attention(), *operands(), quantizer=quantizer)) == (4, 4)


def test_weights_are_around_zero_where_activations_are() -> None:
    quantizer = X86Quantizer().set_global(QuantizationConfig(symmetric_activations=True))
    _, second = nodes(quantize(Attention(), *operands(), quantizer=quantizer, bound=0.1), A.matmul.default)
    assert second.args[0].args[2:] == (0, -127, 127, torch.int8)


def test_small_weights_of_many_keys_are_not_rounded_away() -> None:
    q, k, v = torch.randn(1, 2, 16, 8), torch.randn(1, 2, 900, 8), torch.randn(1, 2, 900, 6)
    expected = Attention()(q, k, v)
    got = quantize(Attention(), q, k, v, bound=0.1)(q, k, v)
    assert (got - expected).norm() < 0.05 * expected.norm()


def test_heads_that_a_view_merges() -> None:
    """PyTorch leaves the heads of a query side by side where they lay so before."""

    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).view(2, 5, 32)

    model, inputs = Model(), tuple(torch.randn(2, 5, 4, 8).transpose(1, 2) for _ in range(3))
    expected, got = model(*inputs), quantize(model, *inputs)(*inputs)
    assert (got - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("write", ["view", "base"])
def test_a_view_of_merged_heads_that_is_written_stays_one(write: str) -> None:
    """It is an error, then, as PyTorch's own: a copy in its place would not see what is written."""

    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            z = y.view(2, 5, 32)
            (z if write == "view" else y).add_(1)
            return y.flatten(2) + z

    with pytest.raises(RuntimeError, match="view size is not compatible"):
        quantize(Model(), *(torch.randn(2, 5, 4, 8).transpose(1, 2) for _ in range(3)))


def test_transformer_layer_of_pytorch() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    x, mask = torch.randn(2, 5, 16), torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.layer(x, src_key_padding_mask=mask)

    quantized = quantize(Model(), x, mask)
    assert len(nodes(quantized, A.matmul.default)) == 2
    assert sum(int8_macs(quantized, x, mask).values()) == 10 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 4 * 5 * 5 * 4
