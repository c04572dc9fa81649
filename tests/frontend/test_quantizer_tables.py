"""X86Quantizer on embeddings: their tables are weights of one scale a row, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lower86.frontend.quantizer import QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import convert, prepare, prepare_qat
from tests.frontend.test_quantizer import A, Q, is_read_quantized, nodes, quantize

IDS = torch.randint(0, 20, (3, 5))


class Tables(nn.Module):
    """Tokens and positions, the latter by a function; then a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 8, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(5, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + F.embedding(torch.arange(5), self.positions)
        return self.head(x)


def table_of(node: Node) -> Node:
    """The dequantize that an embedding reads."""
    table = node.args[0]
    assert isinstance(table, Node)
    return table


def tensors(model: GraphModule, node: Node) -> tuple[Tensor, Tensor]:
    """The integers and the scales of a dequantize."""
    integers, scales = node.all_input_nodes[:2]
    return getattr(model, str(integers.target)), getattr(model, str(scales.target))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_every_row_has_a_scale(mode: str) -> None:
    model = Tables()
    config = QuantizationConfig(mode=mode)  # type: ignore[arg-type]  # a parameter of the test
    quantized = quantize(model, IDS, quantizer=X86Quantizer().set_global(config))
    tokens, positions = (table_of(node) for node in nodes(quantized, A.embedding.default))
    for table, weight in ((tokens, model.tokens.weight), (positions, model.positions)):
        assert table.target is Q.dequantize_per_channel.default
        assert table.args[3:] == (0, -128, 127, torch.int8)
        integers, scales = tensors(quantized, table)
        assert (integers.dtype, integers.shape, scales.shape) == (torch.int8, weight.shape, weight.shape[:1])
        assert bool(((integers * scales[:, None] - weight).abs() <= scales[:, None] * 0.501).all())
    assert int(tensors(quantized, tokens)[0][0].abs().max()) == 0, "the padding stays 0"


def test_small_rows_keep_seven_bits() -> None:
    model = nn.Embedding(20, 8)
    with torch.no_grad():
        model.weight *= 1e-3
    quantized = quantize(model, IDS, bound=0.01)
    (node,) = nodes(quantized, A.embedding.default)
    assert bool((tensors(quantized, table_of(node))[0].int().abs().amax(1) >= 127).all())


OFF: dict[str, tuple[Callable[[X86Quantizer], object], list[bool]]] = {
    "function": (lambda q: q.set_function_type(F.embedding, None), [False, False]),
    "operator": (lambda q: q.set_function_type(A.embedding.default, None), [False, False]),
    "type": (lambda q: q.set_module_type(nn.Embedding, None), [False, True]),
    "name": (lambda q: q.set_module_name("tokens", None), [False, True]),
    "global": (lambda q: q.set_global(None), [False, False]),
    "only one": (lambda q: q.set_global(None).set_module_name("tokens", QuantizationConfig()), [True, False]),
}


@pytest.mark.parametrize("name", OFF)
def test_switched_off(name: str) -> None:
    change, expected = OFF[name]
    quantizer = X86Quantizer()
    change(quantizer)
    quantized = quantize(Tables(), IDS, quantizer=quantizer)
    assert [is_read_quantized(node) for node in nodes(quantized, A.embedding.default)] == expected


def test_one_scale_for_the_table() -> None:
    config = QuantizationConfig(per_channel_weights=False)
    quantized = quantize(Tables(), IDS, quantizer=X86Quantizer().set_global(config))
    for node in nodes(quantized, A.embedding.default):
        assert "dequantize_per_tensor" in str(table_of(node).target)


class Tied(nn.Module):
    """A table that is the last linear's weight as well. The first row is tiny, so that the least scale shows."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight
        with torch.no_grad():
            self.table.weight[0] *= 1e-3

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids))


def test_a_table_that_is_a_linears_weight_is_quantized_as_that() -> None:
    quantized = quantize(Tied(), IDS)
    (table,), (linear,) = nodes(quantized, A.embedding.default), nodes(quantized, A.linear.default)
    weight = linear.args[1]
    assert isinstance(weight, Node)
    for one, other in zip(tensors(quantized, table_of(table)), tensors(quantized, weight), strict=True):
        assert torch.equal(one, other)


class Computed(nn.Module):
    """Tables that depend on the input, are empty, double or renormalized as they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.renormed = nn.Embedding(20, 8).double(), nn.Embedding(20, 8, max_norm=1.0)

    def forward(self, ids: Tensor) -> Tensor:
        from_input = F.embedding(ids % 3, ids.float())
        empty = F.embedding(ids, torch.zeros(20, 0)).sum()
        return from_input.sum() + empty + self.wide(ids).sum().float() + self.renormed(ids).sum()


def test_what_is_no_constant_table_stays_float() -> None:
    quantized = quantize(Computed(), IDS, strict=False)
    assert [is_read_quantized(node) for node in nodes(quantized, A.embedding.default)] == [False] * 4


def test_training_rounds_the_table() -> None:
    model = Tables()
    before = model.tokens.weight.detach().clone()
    graph = torch.export.export(model.train(), (IDS,)).module()
    prepared = prepare_qat(graph, X86Quantizer().set_global(QuantizationConfig.qat()))
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        prepared(IDS).square().mean().backward()
        optimizer.step()
    quantized = convert(prepared)
    assert [is_read_quantized(node) for node in nodes(quantized, A.embedding.default)] == [True, True]
    integers, scales = tensors(quantized, table_of(nodes(quantized, A.embedding.default)[0]))
    assert float((integers * scales[:, None] - before).abs().max()) > 0.001, "nothing was learnt"


def test_prepared_models_give_what_they_gave() -> None:
    graph = torch.export.export(Tables().eval(), (IDS,)).module()
    with torch.no_grad():
        wanted = graph(IDS)
        torch.testing.assert_close(prepare(graph, X86Quantizer())(IDS), wanted)
