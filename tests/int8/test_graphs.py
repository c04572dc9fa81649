"""Graphs around the linears: sharing, metadata, guards, what quantizers and exports leave behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import lower86
from tests.models.checks import agree, lower, near, same, warned
from tests.models.qdq import U8, Linear, Scale, grid
from tests.models.quantized import quantize
from tests.models.small import MLP

Q_OUT = Scale(2.0**-2, 128)


class Shared(nn.Module):
    """One dequantize read by two linears, a view of it by a third, and by an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Linear(16, 16), Linear(16, 16), Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = U8(x)
        linear = nn.functional.linear
        total = linear(x, self.a.dequantized(), self.a.bias) + linear(x, self.b.dequantized())
        return total + x + linear(x.view(-1, 8), self.c.dequantized()).view(-1, 2, 16).sum(1)


def test_a_dequantize_shared_by_several_users() -> None:
    model, inputs = Shared(), grid(6, 16)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs)
    assert len(lower86.explain(lowered).operators) == 3


class SharedWeight(nn.Module):
    """One quantized table is a linear's weight and an embedding's: tied decoders."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(16, 30, axis=None)

    def forward(self, ids: Tensor) -> Tensor:
        table = self.linear.dequantized()
        return nn.functional.linear(U8(nn.functional.embedding(ids, table)), table)


def test_a_weight_shared_with_an_embedding() -> None:
    model, ids = SharedWeight(), torch.randint(0, 30, (3, 4))
    lowered = lower(model, ids)
    agree(model, lowered, ids)
    assert lower86.explain(lowered).int8_fraction == 1


@pytest.mark.parametrize("fold", [True, False])
def test_weights_folded_or_not(fold: bool) -> None:
    inputs = (torch.randn(3, 5, 16),)
    model = quantize(MLP(), inputs, fold_quantize=fold)
    lowered = lower(model, *inputs)
    agree(model, lowered, *inputs, compare=near)
    assert {t.dtype for t in lowered.state_dict().values() if t.dim() == 2} == {torch.int8}


class Deep(nn.Module):
    """Modules within modules; one linear cannot be int8."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"good": Linear(16, 16), "bad": Linear(16, 16, axis=1)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.block["good"](x)
        return self.block["bad"](y)  # the line that explain shows


def test_source_lines_and_module_names_survive() -> None:
    model, inputs = Deep(), grid(3, 16)
    lowered, (message,) = warned(model, inputs)
    good, bad = lower86.explain(lowered).operators
    assert "good" in good.module
    assert "bad" in bad.module
    assert "qdq.py" in bad.line
    assert "return nn.functional.linear" in bad.line
    assert "block.bad" in message
    for node in lowered.graph.nodes:
        if node.op == "call_function" and "linear" in str(node.target):
            assert "the line that explain shows" in node.meta["stack_trace"] or "good" in node.meta["stack_trace"]
    text = lowered.print_readable(print_output=False)
    assert "lower86.int8_linear" in text
    assert "self.block" in text


def test_one_bad_node_leaves_the_rest_alone() -> None:
    model, inputs = Deep(), grid(3, 16)
    lowered, _ = warned(model, inputs)
    agree(model, lowered, inputs)
    explanation = lower86.explain(lowered)
    assert [r.is_int8 for r in explanation.operators] == [True, False]
    assert explanation.int8_fraction == 0.5


def test_export_guards_become_checks() -> None:
    """An exported module checks its inputs by a submodule of guards; the lowered one by itself."""
    inputs = (torch.randn(3, 16),)
    model = quantize(MLP(), inputs)
    assert any("guards" in str(node.target) for node in model.graph.nodes)
    lowered = lower(model, *inputs)
    assert not any("guards" in str(node.target) for node in lowered.graph.nodes)
    with pytest.raises(lower86.InputError, match=r"x has shape \[4, 16\], the program takes \[3, 16\]"):
        lowered(torch.randn(4, 16))


class Layered(nn.Module):
    """Copies, casts, dropout, no_grad and detach, none of which changes a value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = Linear(16, 16), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.linear(x.clone().detach().contiguous().to(torch.float32))
            y = self.dropout(y)
        with torch.autocast("cpu", enabled=False):
            return self.linear(y.float()).clone()


def test_copies_and_regions_vanish() -> None:
    model, inputs = Layered().eval(), grid(3, 16)
    lowered = lower(model, inputs)
    agree(model, lowered, inputs)
    names = {str(node.target) for node in lowered.graph.nodes if node.op == "call_function"}
    assert names == {"quantized_decomposed.quantize_per_tensor.default", "lower86.int8_linear.default"}


def test_the_callers_model_is_not_modified() -> None:
    inputs = (torch.randn(3, 16),)
    model = quantize(MLP(), inputs)
    code, state = model.code, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lower(model, *inputs)
    assert model.code == code
    same(dict(model.state_dict()), state)


def test_lowering_twice_gives_the_same() -> None:
    inputs = (torch.randn(3, 16),)
    model = quantize(MLP(), inputs)
    first, second = lower(model, *inputs), lower(model, *inputs)
    same(first(*inputs), second(*inputs))
    assert first.code == second.code
