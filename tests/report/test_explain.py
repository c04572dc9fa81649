"""`lower86.explain`: the share of int8 work against a count made from the quantized graph, and a table to read."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lower86
from lower86.program.body import Body
from lower86.program.kernels import Rows
from lower86.program.program import Step
from lower86.program.sizes import Size, dim_atom
from lower86.report.explanation import shape_of
from tests.models.checks import lower, lower_anyhow, warned
from tests.models.qdq import S8, U8, Linear, Q, grid
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention, Embedding


def counted(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Multiply-accumulates of a quantized model's linears, from the shapes that pass through them in eager mode."""
    total = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            result = function(*args, **(kwargs or {}))
            name = function._schema.name.removeprefix("aten::")
            if name in ("mm", "addmm", "bmm"):
                left = args[1] if name == "addmm" else args[0]
                total += result.numel() * left.shape[-1]
            return result

    with torch.no_grad(), Counter():
        model(*inputs)
    return total


@pytest.mark.parametrize("kind", [MLP, Embedding])
def test_the_int8_fraction_of_quantized_models(kind: type[nn.Module]) -> None:
    inputs = (torch.randn(3, 5, 16),) if kind is MLP else (torch.randint(0, 50, (2, 6)),)
    model = quantize(kind(), inputs)
    explanation = lower86.explain(lower(model, *inputs))
    assert sum(record.macs for record in explanation.operators) == counted(model, inputs)
    assert explanation.int8_fraction == 1
    assert explanation.foreign == ()
    assert explanation.regions == 1


class Mixed(nn.Module):
    """Two linears that can be int8 and one, three times as long, that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Linear(8, 16), Linear(16, 8), Linear(8, 48, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.relu(self.a(x))))


def test_the_fraction_counts_multiplications_not_nodes() -> None:
    model, x = Mixed(), grid(5, 8)
    lowered, (message,) = warned(model, x)
    explanation = lower86.explain(lowered)
    a, b, c = explanation.operators
    assert (a.macs, b.macs, c.macs) == (5 * 8 * 16, 5 * 8 * 16, 5 * 8 * 48)
    assert sum(r.macs for r in explanation.operators) == counted(model, (x,))
    assert explanation.int8_fraction == pytest.approx(2 / 5)
    assert [r.node for r in explanation.refused] == [c.node]
    assert message.startswith("1 of 3 quantized contractions stays float")


def test_the_table_is_for_people() -> None:
    model, x = Mixed(), grid(5, 8)
    lowered = lower_anyhow(model, x)
    text = str(lower86.explain(lowered))
    lines = text.splitlines()
    assert lines[0].startswith("2 of 3 quantized contractions in int8 (40.0 % of their multiply-accumulates); ")
    assert [line.split()[2] for line in lines[2:5]] == ["a", "b", "c"]
    assert lines[2].endswith("int8, kernel 1")
    assert "float: the weight is quantized along axis 1" in lines[4]
    assert all(len(line) <= 160 for line in lines)
    assert "contraction u8s8" in text
    assert "8 columns, k 16" in text
    for kernel in lower86.explain(lowered).kernels:
        assert kernel.steps
        assert kernel.kind
        assert kernel.shape


def test_attention_is_one_region_and_merged_linears_keep_their_names() -> None:
    inputs = (torch.randn(2, 5, 16), torch.rand(2, 5) < 0.7)
    model = quantize(Attention(), inputs)
    explanation = lower86.explain(lower(model, *inputs))
    assert [r.module for r in explanation.operators] == ["q", "k", "v", "out"]
    assert len({explanation.kernel_of[r.node] for r in explanation.operators}) == 2
    assert explanation.regions == 1
    assert [k.kind for k in explanation.kernels].count("attention") == 1


PRODUCTS: dict[str, tuple[Any, int]] = {
    "matmul": (lambda x, y: x @ y, 4 * 5 * 6),
    "bmm": (lambda x, y: torch.bmm(x[None], y[None]), 4 * 5 * 6),
    "addmm": (lambda x, y: torch.addmm(torch.ones(5), x, y), 4 * 5 * 6),
    "linear": (lambda x, y: F.linear(x, y.t()), 4 * 5 * 6),
    "einsum": (lambda x, y: torch.einsum("ij,jk->ik", x, y), 4 * 5 * 6),
    "einsum, ellipsis": (lambda x, y: torch.einsum("...j,jk->...k", x, y), 4 * 5 * 6),
    "attention": (lambda x, y: F.scaled_dot_product_attention(x[None], y.t()[None], y.t()[None]), 4 * 5 * 12),
    "conv1d": (lambda x, y: F.conv1d(x[None], y[:4, :3].reshape(2, 2, 3), groups=2), 2 * 4 * 2 * 3),
    "conv_transpose1d": (lambda x, y: F.conv_transpose1d(x[None], y[:4].unsqueeze(1)), 4 * 6 * 5),
}


class Products(nn.Module):
    """All products of two quantized activations, of 4 x 6 and 6 x 5 (or what they make of them)."""

    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]:
        return [product(U8(x), S8(y)) for product, _ in PRODUCTS.values()]


REFUSED = {
    "attention": "the weights within the attention are not quantized",
    "conv1d": "the weight is not a constant",
    "conv_transpose1d": "the weight is not a constant",
}


def test_every_product_is_counted_and_those_that_stay_float_say_why() -> None:
    lowered = lower_anyhow(Products(), grid(4, 6), grid(6, 5))
    records = lower86.explain(lowered).operators
    assert len(records) == len(PRODUCTS)
    for record, (name, (_, macs)) in zip(records, PRODUCTS.items(), strict=True):
        assert record.macs == macs, name
        assert record.is_int8 == (name not in REFUSED), name
        assert REFUSED.get(name, "") in record.reason
        assert "test_explain.py" in record.line


def test_on_fallback() -> None:
    model, x = Mixed(), grid(5, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lower_anyhow(model, x)
    assert not caught
    with pytest.raises(lower86.FallbackError, match="axis 1") as error:
        lower(model, x)
    assert "what to do" in str(error.value)


def test_many_refusals_are_one_short_warning() -> None:
    model, x = nn.Sequential(*(Linear(4, 4, axis=1) for _ in range(30))), grid(2, 4)
    _, (message,) = warned(model, x)
    assert message.startswith("30 of 30 quantized contractions stay float")
    assert len(message.splitlines()) < 25
    assert "and 10 more" in message


def test_only_lowered_modules_can_be_explained() -> None:
    with pytest.raises(lower86.Lower86Error, match="Linear is not a lowered module"):
        lower86.explain(nn.Linear(2, 2))


def test_dynamic_sizes_count_at_the_example() -> None:
    model, x = Linear(8, 4), grid(7, 8)
    lowered = lower(model, x, dynamic_shapes=({0: torch.export.Dim("batch")},))
    (record,) = lower86.explain(lowered).operators
    assert record.macs == 7 * 8 * 4
    assert math.isclose(lower86.explain(lowered).int8_fraction, 1)


def test_embedded_quantize_nodes_are_no_contractions() -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randint(-128, 128, (10, 4), dtype=torch.int8))

        def forward(self, ids: Tensor) -> Tensor:
            return nn.functional.embedding(ids, Q.dequantize_per_tensor(self.table, 0.5, 0, -128, 127, torch.int8))

    lowered, (message,) = warned(Rounded(), torch.tensor([1, 2]))
    assert lower86.explain(lowered).operators == ()
    assert "no quantized contraction" in message


def test_sizes_of_a_kernel_in_the_programs_dims() -> None:
    kernel = Rows((dim_atom("d0") * dim_atom("d1"),), (dim_atom("d1"), 7), False, (), Body((), ()), 1)

    def step(*dims: Size) -> Step:
        return Step(0, (), dims, (), "")

    rows, half = dim_atom("rows"), dim_atom("n") + 1
    assert shape_of(kernel) == "d0*d1 rows of d1 x 7"
    assert shape_of(kernel, [step(rows, half)]) == "(n + 1)*rows rows of (n + 1) x 7"
    assert shape_of(kernel, [step(rows, half), step(rows, half)]) == "(n + 1)*rows rows of (n + 1) x 7"
    assert shape_of(kernel, [step(rows, half), step(half, rows)]) == "d0*d1 rows of d1 x 7"
