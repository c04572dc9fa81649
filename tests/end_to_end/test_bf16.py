"""Models in bf16 and under autocast: int8 where they are quantized, bf16 in memory elsewhere, nothing foreign.

Accuracy: no further from the same quantized model in float64 than PyTorch's own run in bf16, times a small factor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import lower86
from lower86.lowered import LoweredModule
from lower86.ops.attention import int8_attention
from tests.models import transformer
from tests.models.checks import lower, lower_anyhow
from tests.models.counting import int8_macs
from tests.models.quantized import in_float64, quantize

pytestmark = pytest.mark.filterwarnings("ignore:The input of maxpool2d is not quantized:UserWarning")
BF16 = torch.bfloat16
FACTOR = 1.25


class Encoder(nn.Module):
    """A transformer's encoder layer, norms first or last: [b, n, 32] to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.up, self.down = nn.Linear(32, 67), nn.Linear(67, 32)
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.view(t.shape[0], t.shape[1], 4, -1).transpose(1, 2)

        y = nn.functional.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)))
        x = self.first(x + self.out(y.transpose(1, 2).reshape(x.shape)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Blocks(nn.Module):
    """Two residual blocks with batch norms, a pool before and after: [b, 3, 16, 16] to [b, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(4))
        self.head = nn.Linear(16, 10)
        for norm in (self.norm, *self.norms):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 2)
        for i in (0, 2):
            y = torch.relu(self.norms[i](self.convs[i](x)))
            x = torch.relu(x + self.norms[i + 1](self.convs[i + 1](y)))
        return self.head(x.mean((2, 3)))


def check(
    quantized: GraphModule,
    lowered: LoweredModule,
    inputs: Tensor | tuple[Tensor, ...],
    theirs: Callable[..., Tensor],
    factor: float = FACTOR,
) -> None:
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    wide = (x.double() if x.is_floating_point() else x for x in inputs)
    with torch.no_grad():
        exact, original = in_float64(quantized)(*wide), theirs(*inputs)
    got = lowered(*inputs)
    assert got.dtype == original.dtype
    ours, bound = ((y.double() - exact).abs() for y in (got, original))
    assert ours.mean() <= factor * bound.mean(), (ours.mean(), bound.mean())
    assert ours.max() <= 2 * factor * bound.max(), (ours.max(), bound.max())


def is_the_same_on_avx2(quantized: GraphModule, lowered: LoweredModule, x: Tensor) -> None:
    assert torch.equal(lower(quantized, x, target="avx2")(x), lowered(x))


def is_native(lowered: LoweredModule, contractions: int) -> None:
    explanation = lower86.explain(lowered)
    assert explanation.foreign == ()
    assert explanation.int8_fraction == 1.0
    assert len(explanation.operators) == contractions


QUANTIZERS = {
    "torchao": None,
    "own": lower86.X86Quantizer(),
    "dynamic": lower86.X86Quantizer().set_global(lower86.QuantizationConfig.dynamic()),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_encoder(quantizer: str) -> None:
    x = torch.randn(2, 33, 32).to(BF16)
    quantized = quantize(Encoder().to(BF16), (x,), quantizer=QUANTIZERS[quantizer])
    lowered = lower(quantized, x)
    is_native(lowered, 8 if quantizer == "own" else 6)
    check(quantized, lowered, x, quantized)
    is_the_same_on_avx2(quantized, lowered, x)


@pytest.mark.parametrize(
    ("name", "attention", "dtype"),
    [("bert-base", "eager", BF16), ("vit-s16", "sdpa", BF16), ("whisper-tiny", "sdpa", torch.float16)],
)
def test_transformers_with_int8_attention(name: str, attention: str, dtype: torch.dtype) -> None:
    model = transformer.load(name, small=True, attention=attention).to(dtype)
    (inputs,) = transformer.inputs(name, 1, small=True)
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    quantized = quantize(model, inputs, quantizer=lower86.X86Quantizer())
    lowered = lower(quantized, *inputs)
    explanation = lower86.explain(lowered)
    assert (explanation.foreign, explanation.int8_fraction) == ((), 1.0)
    assert sum(record.macs for record in explanation.operators) == sum(int8_macs(quantized, *inputs).values())
    assert [node.target for node in lowered.graph.nodes].count(int8_attention) == 2
    check(quantized, lowered, inputs, quantized)


@pytest.mark.parametrize("quantizer", ["torchao", "own"])
def test_residual_blocks(quantizer: str) -> None:
    x = torch.randn(2, 3, 16, 16).to(BF16)
    quantized = quantize(Blocks().to(BF16), (x,), quantizer=QUANTIZERS[quantizer])
    lowered = lower(quantized, x)
    is_native(lowered, 6)
    check(quantized, lowered, x, quantized)
    is_the_same_on_avx2(quantized, lowered, x)


@pytest.mark.parametrize(
    ("model", "quantizer", "contractions"), [(Encoder, "torchao", 6), (Encoder, "own", 8), (Blocks, "torchao", 6)]
)
def test_lowered_under_autocast(model: type[nn.Module], quantizer: str, contractions: int) -> None:
    x = torch.randn(2, 33, 32) if model is Encoder else torch.randn(2, 3, 16, 16)
    quantized = quantize(model(), (x,), quantizer=QUANTIZERS[quantizer])

    def autocast(*inputs: Tensor) -> Any:
        with torch.autocast("cpu", BF16):
            return quantized(*inputs)

    with torch.autocast("cpu", BF16):
        lowered = lower(quantized, x)
    is_native(lowered, contractions)
    check(quantized, lowered, x, autocast)


@pytest.mark.parametrize(("quantizer", "contractions"), [("torchao", 6), ("own", 8)])
def test_dynamic_shapes(quantizer: str, contractions: int) -> None:
    x = torch.randn(2, 33, 32).to(BF16)
    shapes = {"x": {0: torch.export.Dim("b", max=64), 1: torch.export.Dim("n", max=128)}}
    quantized = quantize(Encoder().to(BF16), (x,), dynamic_shapes=shapes, quantizer=QUANTIZERS[quantizer])
    lowered = lower(quantized, x)
    is_native(lowered, contractions)
    for b, n in ((1, 1), (3, 64), (2, 33)):
        given = torch.randn(b, n, 32).to(BF16)
        check(quantized, lowered, given, quantized)


class Cached(nn.Module):
    """Attention over a static cache in bf16: one row is written, all are read."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(16, 16)
        self.register_buffer("rows", torch.zeros(2, 7, 16, dtype=BF16))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        self.rows.index_copy_(1, place, x)
        y = nn.functional.scaled_dot_product_attention(x, self.rows, self.rows)
        return self.out(y)


def test_state() -> None:
    x, place = torch.randn(2, 1, 16).to(BF16), torch.tensor([3])
    quantized = quantize(Cached().to(BF16), (x, place))
    quantized.rows.zero_()
    lowered = lower(quantized, x, place)
    is_native(lowered, 1)
    for place in (torch.tensor([i]) for i in (0, 4, 2)):
        x = torch.randn(2, 1, 16).to(BF16)
        with torch.no_grad():
            torch.testing.assert_close(lowered(x, place), quantized(x, place), rtol=2**-6, atol=2**-5)
        assert torch.equal(dict(lowered.named_state())["rows"], quantized.rows)


def test_layers_that_stay_float() -> None:
    """As good as PyTorch's bf16, which multiplies and sums likewise."""
    x = torch.randn(3, 33, 32).to(BF16)
    model = Encoder().to(BF16).eval()
    lowered = lower_anyhow(model, x)
    assert lower86.explain(lowered).foreign == ()
    with torch.no_grad():
        exact, original = copy.deepcopy(model).double()(x.double()), model(x)
    ours, bound = ((y.double() - exact).abs() for y in (lowered(x), original))
    assert ours.mean() <= FACTOR * bound.mean()
    assert ours.max() <= 2 * FACTOR * bound.max()
    assert torch.equal(lower_anyhow(model, x, target="avx2")(x), lowered(x))
