"""Quantized attention becomes one operator: however it is written, masked, grouped and shaped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import lower86
from lower86 import X86Quantizer
from lower86.ops.attention import int8_attention
from tests.models.checks import lower, lower_anyhow
from tests.models.qdq import Q, Scale
from tests.models.quantized import in_float64, quantize

A = torch.ops.aten
Inputs = tuple[Tensor, ...]


class Fused(nn.Module):
    """Attention with fixed options."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, **self.options)


class Spelled(nn.Module):
    """Attention as models write it out; `change` is what happens to the scores before the softmax."""

    def __init__(self, change: Any = None, dim: int = 8) -> None:
        super().__init__()
        self.change, self.scale = change, 1 / math.sqrt(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *masks: Tensor) -> Tensor:
        scores = torch.matmul(q, k.transpose(-1, -2)) * self.scale
        if self.change is not None:
            scores = self.change(scores, *masks)
        return torch.matmul(self.dropout(torch.softmax(scores, -1)), v)


def operands(heads: int = 4, kept: int = 4, queries: int = 5, keys: int = 7, batch: int = 2) -> Inputs:
    return torch.randn(batch, heads, queries, 8), torch.randn(batch, kept, keys, 8), torch.randn(batch, kept, keys, 6)


def some(*shape: int) -> Tensor:
    mask = torch.rand(*shape) > 0.4
    mask[..., 0] = True
    return mask


def windowed(scores: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Swin's: windows are batches, but for the mask."""
    windows, heads, n, m = scores.shape
    scores = (scores + bias).view(-1, 3, heads, n, m) + mask[:, None]
    return scores.view(windows, heads, n, m)


class Windowed(Spelled):
    """With two masks."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return super().forward(q, k, v, bias, mask)


def hidden_in_windows(scores: Tensor, one: Tensor, other: Tensor) -> Tensor:
    scores = scores.masked_fill(~one, LOWEST)
    return scores.view(-1, 3, *scores.shape[1:]).masked_fill(~other, LOWEST).view(scores.shape)


LOWEST = torch.finfo(torch.float32).min
TRIANGLE, PADDING = torch.ones(5, 7).tril() > 0, (torch.arange(7) >= torch.tensor([[3], [1]]))[:, None, None]
CASES: dict[str, tuple[nn.Module, Inputs]] = {
    "plain": (Fused(), operands()),
    "three dims": (Fused(), tuple(t[:, 0] for t in operands())),
    "scale": (Fused(scale=0.3), operands()),
    "boolean": (Fused(), (*operands(), some(2, 1, 5, 7))),
    "additive": (Fused(), (*operands(), torch.randn(5, 7).masked_fill(~some(5, 7), -torch.inf))),
    "causal": (Fused(is_causal=True), operands()),
    "causal, square": (Fused(is_causal=True), operands(queries=7)),
    "grouped": (Fused(enable_gqa=True), operands(kept=2)),
    "grouped, boolean": (Fused(enable_gqa=True), (*operands(kept=2), some(2, 1, 5, 7))),
    "grouped, causal": (Fused(enable_gqa=True, is_causal=True), operands(kept=1)),
    "a row without keys": (Fused(), (*operands(), torch.arange(5)[:, None].expand(5, 7) != 2)),
    "spelled out": (Spelled(), operands()),
    "spelled out, additive": (Spelled(torch.add), (*operands(), torch.randn(2, 1, 5, 7))),
    "spelled out, filled": (
        Spelled(lambda scores, mask: scores.masked_fill(~mask, -torch.inf)), (*operands(), some(2, 1, 5, 7))
    ),
    "spelled out, lowest": (
        Spelled(lambda scores, mask: scores.masked_fill(~mask, LOWEST)), (*operands(), some(2, 1, 5, 7))
    ),
    "spelled out, bias and mask": (
        Spelled(lambda scores, bias, mask: torch.where(mask, scores + bias, LOWEST)),
        (*operands(), torch.randn(4, 5, 7), some(2, 1, 5, 7)),
    ),
    "spelled out, divided after": (
        Spelled(lambda scores, bias: (scores + bias) / 3.0), (*operands(), torch.randn(4, 5, 7))
    ),
    "spelled out, hidden only together": (
        Spelled(lambda scores, one, other: scores.masked_fill(~one, LOWEST).masked_fill(~other, LOWEST)),
        (*operands(), TRIANGLE, PADDING),
    ),
    "spelled out, infinite, then lowest": (
        Spelled(lambda scores, other: scores.masked_fill(~TRIANGLE, -torch.inf).masked_fill(~other, LOWEST)),
        (*operands(), PADDING),
    ),
    "spelled out, a triangle, then lowest": (
        Spelled(lambda scores, other: torch.where(other, torch.where(TRIANGLE, scores, -torch.inf), LOWEST)),
        (*operands(), PADDING),
    ),
    "spelled out, lowest, then causal": (
        Spelled(lambda scores, other: torch.where(TRIANGLE, scores.masked_fill(~other, LOWEST), -torch.inf)),
        (*operands(), PADDING),
    ),
    "spelled out, numbers, then lowest": (
        Spelled(lambda scores, one, other: (scores + torch.where(one, 0.0, -1e34)).masked_fill(~other, -1e34)),
        (*operands(), TRIANGLE, PADDING),
    ),
    "spelled out, lowest, then a bias": (
        Spelled(lambda scores, mask, bias: scores.masked_fill(~mask, LOWEST) + bias),
        (*operands(), some(2, 1, 5, 7), torch.randn(4, 5, 7)),
    ),
    "spelled out, divided after a mask": (
        Spelled(lambda scores, mask: scores.masked_fill(~mask, -1e30) / 1e29), (*operands(), some(2, 1, 5, 7))
    ),
    "windows, hidden only together": (Spelled(hidden_in_windows), (*operands(batch=6), TRIANGLE, PADDING[[0, 0, 1]])),
    "windows": (Spelled(windowed), (*operands(batch=6), torch.randn(4, 5, 7), torch.randn(3, 5, 7))),
    "windows, one batch": (Spelled(windowed), (*operands(batch=3), torch.randn(4, 5, 7), torch.randn(3, 5, 7))),
}  # fmt: skip


def check(model: nn.Module, inputs: Inputs, **options: Any) -> lower86.LoweredModule:
    quantized = quantize(model, inputs, quantizer=X86Quantizer(), **options)
    lowered = lower(quantized, *inputs, **options)
    targets = [node.target for node in lowered.graph.nodes]
    assert targets.count(int8_attention) == 1
    assert A.matmul.default not in targets
    compare(model, quantized, lowered, inputs)
    return lowered


def compare(model: nn.Module, quantized: nn.Module, lowered: lower86.LoweredModule, inputs: Inputs) -> None:
    with torch.no_grad():
        wanted, real = quantized(*inputs), model(*inputs)
    got = lowered(*inputs)
    assert (got - wanted).norm() <= 0.25 * (wanted - real).norm()
    assert (lowered.run_reference(*inputs) - wanted).norm() <= 0.25 * (wanted - real).norm()


class Known(nn.Module):
    """Attention with a mask that the model holds."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, self.mask)


@pytest.mark.parametrize("queries", [5, 7])
def test_a_known_triangle_is_causal_and_the_first_key_for_all_is_not(queries: int) -> None:
    for mask, causal in ((torch.ones(queries, 7).tril() > 0, True), (torch.arange(7)[None] < 1, False)):
        lowered = check(Known(mask), operands(queries=queries))
        (node,) = (node for node in lowered.graph.nodes if node.target is int8_attention)
        assert node.kwargs.get("is_causal", False) == causal


@pytest.mark.parametrize("name", CASES)
def test_attention_is_one_operator(name: str) -> None:
    model, inputs = CASES[name]
    lowered = check(model.eval(), inputs)
    (node,) = (node for node in lowered.graph.nodes if node.target is int8_attention)
    assert ("causal" in name) == node.kwargs.get("is_causal", False)


BF16 = torch.bfloat16


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, BF16) for name in ("additive", "grouped, causal", "spelled out, filled", "windows")),
        *((name, torch.float16) for name in ("boolean", "spelled out, bias and mask")),
    ],
)
def test_attention_in_narrow_floats(name: str, dtype: torch.dtype) -> None:
    model, inputs = CASES[name]
    inputs = tuple(t.to(dtype) if t.is_floating_point() else t for t in inputs)
    quantized = quantize(model.eval(), inputs, quantizer=X86Quantizer())
    lowered = lower(quantized, *inputs)
    assert [node.target for node in lowered.graph.nodes].count(int8_attention) == 1
    with torch.no_grad():
        wide = tuple(t.double() if t.is_floating_point() else t for t in inputs)
        exact, wanted = in_float64(quantized)(*wide), quantized(*inputs)
    got = lowered(*inputs)
    assert got.dtype == dtype
    assert (got.double() - exact).norm() <= 0.75 * (wanted.double() - exact).norm()  # which is rounded at every node
    torch.testing.assert_close(lowered.run_reference(*inputs), got, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


class RoundedWeights(nn.Module):
    """As models in bf16 write it: a softmax in float32, of scores in bf16, cast back."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = torch.matmul(q, k.transpose(-1, -2)) * 0.35 + mask
        return torch.matmul(F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype), v)


def test_a_softmax_in_float32_of_scores_in_bf16() -> None:
    inputs = tuple(t.bfloat16() for t in (*operands(), torch.randn(2, 1, 5, 7)))
    quantized = quantize(RoundedWeights(), inputs, quantizer=X86Quantizer())
    lowered = lower(quantized, *inputs)
    assert [node.target for node in lowered.graph.nodes].count(int8_attention) == 1
    (node,) = (node for node in lowered.graph.nodes if node.target is int8_attention)
    assert node.kwargs["weight_zero_point"] == 0  # the quantizer has seen the softmax behind the cast
    with torch.no_grad():
        exact, wanted = in_float64(quantized)(*(t.double() for t in inputs)), quantized(*inputs)
    assert (lowered(*inputs).double() - exact).norm() <= 0.75 * (wanted.double() - exact).norm()


def test_both_products_are_counted() -> None:
    lowered = check(Fused(), operands())
    records = lower86.explain(lowered).operators
    assert [record.macs for record in records] == [2 * 4 * 5 * 7 * 8, 2 * 4 * 5 * 7 * 6]
    again = lower86.lower_pt2e_quantized_to_x86(lowered, operands())
    (kept,) = lower86.explain(again).operators
    assert kept.macs == sum(record.macs for record in records)


@pytest.mark.parametrize("causal", [False, True])
def test_sizes_that_vary(causal: bool) -> None:
    q, k, v = operands(queries=16, keys=16)
    v = torch.randn(2, 4, 16, 8)
    batch, n = Dim("batch", max=8), Dim("n", max=300)
    shapes = {name: {0: batch, 2: n} for name in ("q", "k", "v")}
    model = Fused(is_causal=causal)
    quantized = quantize(model, (q, k, v), quantizer=X86Quantizer(), dynamic_shapes=shapes)
    lowered = lower(quantized, q, k, v, dynamic_shapes=shapes)
    (node,) = (node for node in lowered.graph.nodes if node.target is int8_attention)
    assert node.kwargs.get("is_causal", False) == causal
    for batch_, size in ((1, 1), (2, 7), (3, 64), (1, 300), (2, 0), (0, 5)):
        inputs = tuple(torch.randn(batch_, 4, size, 8) for _ in range(3))
        wanted = quantized(*inputs)
        for got in (lowered(*inputs), lowered.run_reference(*inputs)):
            assert got.shape == wanted.shape
            assert (got - wanted).norm() <= 0.02 * wanted.norm()


BATCH, QUERIES = Dim("batch", min=2, max=8), Dim("n", max=300)
VARYING: dict[str, tuple[nn.Module, Any, Any]] = {
    "grouped": (
        Fused(enable_gqa=True), lambda batch, n: operands(kept=2, batch=batch, queries=n),
        ({0: BATCH, 2: QUERIES}, {0: BATCH}, {0: BATCH}),
    ),
    "grouped, masked": (
        Fused(enable_gqa=True), lambda batch, n: (*operands(kept=2, batch=batch, queries=n), some(batch, 1, n, 7)),
        ({0: BATCH, 2: QUERIES}, {0: BATCH}, {0: BATCH}, {0: BATCH, 2: QUERIES}),
    ),
    "windows": (
        Windowed(windowed),
        lambda batch, n: (*operands(batch=3 * batch), torch.randn(4, 5, 7), torch.randn(3, 5, 7)),
        ({0: 3 * BATCH}, {0: 3 * BATCH}, {0: 3 * BATCH}, None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARYING)
def test_what_is_reshaped_in_sizes_that_vary(name: str) -> None:
    model, example, shapes = VARYING[name]
    inputs = example(3, 5)
    quantized = quantize(model.eval(), inputs, quantizer=X86Quantizer(), dynamic_shapes=shapes)
    lowered = lower(quantized, *inputs, dynamic_shapes=shapes)
    again = lower(lowered, *inputs, dynamic_shapes=shapes)
    for lowered_ in (lowered, again):
        assert [node.target for node in lowered_.graph.nodes].count(int8_attention) == 1
        for sizes in ((2, 7), (3, 5), (7, 40)):
            inputs = example(*sizes)
            wanted = quantized(*inputs)
            for got in (lowered_(*inputs), lowered_.run_reference(*inputs)):
                assert got.shape == wanted.shape
                assert (got - wanted).norm() <= 0.02 * wanted.norm()


@pytest.mark.parametrize(
    ("change", "masks"),
    [
        (lambda scores, mask: torch.where(mask, scores, -100.0), (some(2, 1, 5, 7),)),
        (lambda scores, mask: scores + mask, (some(2, 1, 5, 7),)),
        (lambda scores, mask: scores + mask, (torch.randint(0, 3, (5, 7)),)),
        (lambda scores: scores.tanh(), ()),
        (lambda scores: scores.softmax(1), ()),
    ],
    ids=["a mask that is not as good as infinite", "truth", "integers", "another function", "another softmax before"],
)
def test_what_is_no_attention_stays_as_it_is(change: Any, masks: Inputs) -> None:
    model, inputs = Spelled(change).eval(), (*operands(), *masks)
    quantized = quantize(model, inputs, quantizer=X86Quantizer())
    lowered = lower_anyhow(quantized, *inputs)
    assert int8_attention not in [node.target for node in lowered.graph.nodes]
    compare(model, quantized, lowered, inputs)


class Requantized(nn.Module):
    """Attention quantized by hand: its weights as `quantize` says, read as `dequantize` does."""

    def __init__(self, quantize: Scale, dequantize: Scale) -> None:
        super().__init__()
        self.weights = quantize, dequantize

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (Scale(2.0**-5, 128)(t) for t in (q, k, v))
        weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)), -1)
        first, second = self.weights
        integers = Q.quantize_per_tensor(weights, *first.all)
        return torch.matmul(Q.dequantize_per_tensor(integers, *second.all), v)


@pytest.mark.parametrize(
    ("first", "second", "fused"),
    [
        (Scale(1 / 255, 0), Scale(1 / 255, 0), True),
        (Scale(1 / 255, 0), Scale(1 / 128, 0), False),
        (Scale(1 / 255, 0), Scale(1 / 255, 3), False),
        (Scale(1e-9, 0), Scale(1e-9, 0), False),
    ],
    ids=[
        "one scale",
        "read with another scale",
        "read with another zero point",
        "a scale for which all weights are large",
    ],
)
def test_weights_are_read_as_they_were_written(first: Scale, second: Scale, fused: bool) -> None:
    model, inputs = Requantized(first, second), operands()
    lowered = lower_anyhow(torch.export.export(model, inputs).module(), *inputs)
    assert (int8_attention in [node.target for node in lowered.graph.nodes]) == fused
    wanted = model(*inputs)
    assert (lowered(*inputs) - wanted).norm() <= 0.01 * wanted.norm()


def test_scores_that_somebody_else_reads_stay() -> None:
    class Both(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)), -1)
            return torch.matmul(weights, v), weights

    quantized = quantize(Both(), operands(), quantizer=X86Quantizer())
    lowered = lower_anyhow(quantized, *operands())
    assert int8_attention not in [node.target for node in lowered.graph.nodes]
    inputs = operands()
    for got, wanted in zip(lowered(*inputs), quantized(*inputs), strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-2, rtol=1e-3)
