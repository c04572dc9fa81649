"""Embeddings of quantized tables: a byte an element is read, and the quantized model's own bits come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lower86
from lower86 import X86Quantizer
from lower86.lowered import LoweredModule
from lower86.program.kernels import Pointwise, Rows
from tests.artifact.round_trip import again, agrees
from tests.models import transformer
from tests.models.checks import agree, lower, lower_anyhow, near
from tests.models.counting import int8_macs
from tests.models.qdq import Linear, Q, grid
from tests.models.quantized import quantize

TABLE = torch.randint(-128, 128, (50, 37), dtype=torch.int8)
IDS = torch.randint(0, 50, (3, 7))


class Looked(nn.Module):
    """Rows of an integer table, dequantized by `function(table, scales, zero points)`."""

    def __init__(self, function: Callable[..., Tensor], table: Tensor, axis: int, zero: int) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("table", table)
        count = table.shape[axis]
        self.register_buffer("scales", torch.rand(count) + 0.01)
        self.register_buffer("zeros", torch.arange(count) % 5 * zero)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.function(self.table, self.scales, self.zeros))


def by_axis(axis: int, **options: Any) -> Callable[..., Tensor]:
    """A dequantize along an axis."""
    return lambda w, s, z: Q.dequantize_per_channel(w, s, z, axis, -128, 127, torch.int8, **options)


LOOKUPS: dict[str, nn.Module] = {
    "rows": Looked(by_axis(0), TABLE, 0, 0),
    "rows, zero points": Looked(by_axis(0), TABLE, 0, -11),
    "rows, no zero points": Looked(lambda w, s, z: by_axis(0)(w, s, None), TABLE, 0, 0),
    "columns": Looked(by_axis(1), TABLE, 1, 0),
    "columns, zero points": Looked(by_axis(-1), TABLE, 1, 7),
    "whole": Looked(lambda w, s, z: Q.dequantize_per_tensor(w, 0.3, 5, -128, 127, torch.int8), TABLE, 0, 0),
    "u8": Looked(
        lambda w, s, z: Q.dequantize_per_channel(w, s, z, 0, 0, 255, torch.uint8),
        TABLE.view(torch.uint8), 0, 31,
    ),
    "tokens": Looked(
        lambda w, s, z: Q.dequantize_per_token(w, s[:, None], z[:, None], -128, 127, torch.int8, torch.float32),
        TABLE, 0, 3,
    ),
    "bf16": Looked(by_axis(0, out_dtype=torch.bfloat16), TABLE, 0, 0),
    "one column": Looked(by_axis(0), TABLE[:, :1].contiguous(), 0, 0),
}  # fmt: skip


def is_one_step_over_bytes(lowered: LoweredModule, kind: type) -> bool:
    """Whether the program is one kernel of the kind, and no constant of it has more elements of a float than rows."""
    sizes = [t.numel() for t in lowered.state_dict().values() if t.is_floating_point()]
    return [type(k) for k in lowered.program.kernels] == [kind] and max(sizes, default=0) <= 50


@pytest.mark.parametrize("name", LOOKUPS)
def test_a_lookup_alone_is_exact(name: str) -> None:
    model = LOOKUPS[name]
    lowered = lower_anyhow(model, IDS)
    agree(model, lowered, IDS)
    agree(model, lowered, IDS.flip(0))
    assert is_one_step_over_bytes(lowered, Pointwise)


class Normed(nn.Module):
    """Tokens and segments, both by ids, and positions; a layer norm: as BERT begins."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.segments = nn.Embedding(50, 32), nn.Embedding(2, 32)
        self.positions, self.norm = nn.Embedding(7, 32), nn.LayerNorm(32)

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        return self.norm(self.tokens(ids) + self.segments(segments) + self.positions(torch.arange(7)))


def test_lookups_and_the_norm_behind_them_are_one_step() -> None:
    inputs = (IDS, IDS % 2)
    model = quantize(Normed(), inputs, quantizer=X86Quantizer())
    lowered = lower_anyhow(model, *inputs)
    agree(model, lowered, *inputs, compare=near)
    assert [type(k) for k in lowered.program.kernels] == [Rows]


def test_sizes_that_vary() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(50, 32, padding_idx=0), nn.Embedding(16, 32)

        def forward(self, ids: Tensor) -> Tensor:
            return self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))

    dims = ({0: torch.export.Dim("batch", max=9), 1: torch.export.Dim("length", max=16)},)
    model = quantize(Model(), (IDS,), quantizer=X86Quantizer(), dynamic_shapes=dims)
    lowered = lower_anyhow(model, IDS)
    for shape in ((3, 7), (1, 1), (9, 16), (0, 4)):
        agree(model, lowered, torch.randint(0, 50, shape))
    assert {t.dtype for t in lowered.state_dict().values() if t.shape[-1:] == (32,)} == {torch.int8}


@pytest.mark.parametrize("bad", [50, -1, 2**40])
def test_an_index_out_of_range_is_an_error(bad: int) -> None:
    model = quantize(nn.Embedding(50, 37), (IDS,), quantizer=X86Quantizer())
    lowered = lower_anyhow(model, IDS)
    ids = IDS.clone()
    ids[1, 3] = bad
    with pytest.raises(lower86.InputError, match=str(bad)):
        lowered(ids)
    agree(model, lowered, IDS)


class Two(nn.Module):
    """What is looked up has two readers, a norm and a residual, and is the last linear's weight as well."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.inner = nn.Embedding(50, 32), nn.LayerNorm(32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        return self.head(x + self.inner(self.norm(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_table_that_is_a_linears_weight_is_one_constant(dtype: torch.dtype) -> None:
    model = quantize(Two().to(dtype), (IDS,), quantizer=X86Quantizer())
    lowered = lower(model, IDS)
    with torch.no_grad():
        wanted = model(IDS).float()
    tolerance = 0.02 if dtype == torch.float32 else 0.1
    assert float((lowered(IDS).float() - wanted).norm() / wanted.norm()) < tolerance
    kept = [t for t in lowered.state_dict().values() if t.shape == (50, 32)]
    assert [t.dtype for t in kept] == [torch.int8]
    assert lower86.explain(lowered).int8_fraction == 1


def test_bf16_is_exact() -> None:
    model = quantize(nn.Embedding(50, 37).to(torch.bfloat16), (IDS,), quantizer=X86Quantizer())
    agree(model, lower_anyhow(model, IDS), IDS)


class Straight(nn.Module):
    """A linear of rows as they are looked up: each row's own scale is that of an activation of the linear."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.linear = Looked(by_axis(0), TABLE[:, :20].contiguous(), 0, 3), Linear(20, 12)
        self.rows.scales.copy_(2.0 ** -torch.arange(50).remainder(5))

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.rows(ids), self.linear.dequantized(), self.linear.bias)


def test_rows_go_into_an_integer_product_as_they_are() -> None:
    model = Straight()
    lowered = lower(model, IDS)
    agree(model, lowered, IDS)
    assert lower86.explain(lowered).int8_fraction == 1


class Bags(nn.Module):
    """Bags of one length, whose table a quantizer wrote by hand; and a linear, of other values."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Looked(by_axis(0), TABLE, 0, 0)
        self.linear = Linear(20, 12)

    def forward(self, ids: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        table = self.rows.function(self.rows.table, self.rows.scales, self.rows.zeros)
        return F.embedding_bag(ids, table, mode="sum"), self.linear(x)


def test_bags() -> None:
    model, inputs = Bags(), (IDS, grid(3, 20))
    lowered = lower(model, *inputs)
    agree(model, lowered, *inputs, compare=near)
    assert {t.dtype for t in lowered.state_dict().values() if t.shape == TABLE.shape} == {torch.int8}


class Language(nn.Module):
    """GPT-2 with its head, which is tied to the tokens' table."""

    def __init__(self) -> None:
        super().__init__()
        self.body = transformer.load("gpt2", small=True)
        self.head = nn.Linear(128, transformer.VOCABULARY, bias=False)
        self.head.weight = self.body.model.wte.weight  # type: ignore[union-attr]  # submodules have no types

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(ids))


def test_a_tied_language_model(tmp_path: Path) -> None:
    inputs = transformer.inputs("gpt2", 1, small=True)[0]
    model = Language().eval()
    sizes = {}
    for name, quantizer in (("int8", X86Quantizer()), ("float", X86Quantizer().set_function_type(F.embedding, None))):
        quantized = quantize(model, inputs, quantizer=quantizer)
        lowered = lower(quantized, *inputs)
        explanation = lower86.explain(lowered)
        assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, *inputs).values())
        assert (explanation.int8_fraction, explanation.foreign, explanation.regions) == (1, (), 1)
        with torch.no_grad():
            wanted, got = model(*inputs), lowered(*inputs)
        assert float((got - wanted).norm() / wanted.norm()) < 0.1
        agrees(lowered, again(lowered, tmp_path), *inputs)
        sizes[name] = (tmp_path / "model.safetensors").stat().st_size
    # The head keeps a copy of the table, packed as a linear's weight.
    assert sizes["float"] - sizes["int8"] > 2.9 * model.head.weight.numel()


def test_a_file_is_a_quarter_of_the_tables(tmp_path: Path) -> None:
    inputs = transformer.inputs("bert-base", 1, small=True)[0]
    model = transformer.load("bert-base", small=True)
    lowered = lower(quantize(model, inputs, quantizer=X86Quantizer()), *inputs)
    lower86.save(lowered, str(tmp_path / "model.safetensors"))
    unread = 512 * 128  # positions beyond the inputs' 24
    weights = sum(p.numel() for p in model.parameters()) - unread
    assert (tmp_path / "model.safetensors").stat().st_size < 1.15 * weights
