"""Whatever quantizer wrote the graph, all its linears become int8: each one's own dtypes, operators and spellings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchao.quantization.pt2e.quantizer.arm_inductor_quantizer as aiq
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
import torchao.testing.pt2e._xnnpack_quantizer as xnn
from torch import Tensor, nn

import lower86
from lower86 import QuantizationConfig, X86Quantizer
from tests.models.checks import agree, lower, near
from tests.models.counting import int8_macs
from tests.models.qdq import Linear
from tests.models.quantized import quantize
from tests.models.small import MLP, Attention

Quantizers = dict[str, Callable[[], Any]]


def _x86(**options: Any) -> Any:
    return xiq.X86InductorQuantizer().set_global(xiq.get_default_x86_inductor_quantization_config(**options))


def _arm(**options: Any) -> Any:
    return aiq.ArmInductorQuantizer().set_global(aiq.get_default_arm_inductor_quantization_config(**options))


def _xnnpack(**options: Any) -> Any:
    return xnn.XNNPACKQuantizer().set_global(xnn.get_symmetric_quantization_config(**options))


def _own(**options: Any) -> Any:
    return X86Quantizer().set_global(QuantizationConfig(**options))


QUANTIZERS: Quantizers = {
    "x86": _x86,
    "x86 dynamic": lambda: _x86(is_dynamic=True),
    "arm": _arm,
    "arm dynamic": lambda: _arm(is_dynamic=True),
    "xnnpack": _xnnpack,
    "xnnpack per channel": lambda: _xnnpack(is_per_channel=True),
    "xnnpack dynamic": lambda: _xnnpack(is_per_channel=True, is_dynamic=True),
    "own": _own,
    "own dynamic": lambda: _own(mode="dynamic"),
    "own dynamic symmetric": lambda: _own(mode="dynamic", symmetric_activations=True),
    "own per token": lambda: _own(mode="dynamic", per_token=True),
    "own per token symmetric": lambda: _own(mode="dynamic", per_token=True, symmetric_activations=True),
}
MODELS: dict[str, tuple[type[nn.Module], tuple[Any, ...]]] = {
    "mlp": (MLP, (torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)),)),
    "attention": (
        Attention,
        (torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1)), torch.arange(12).view(2, 6) % 6 < 4),
    ),
}


# torchao's convert fails where several layers share one symmetric scale from run time; `X86Quantizer` says so before.
REFUSED = ("own dynamic symmetric", "attention")


@pytest.mark.parametrize(("name", "model"), [case for case in itertools.product(QUANTIZERS, MODELS) if case != REFUSED])
def test_every_linear_is_int8(name: str, model: str) -> None:
    torch.manual_seed(0)
    kind, inputs = MODELS[model]
    quantized = quantize(kind(), inputs, quantizer=QUANTIZERS[name]())
    wanted = {node: macs for node, macs in int8_macs(quantized, *inputs).items() if node.startswith("linear")}
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, inputs, on_fallback="ignore")
    explanation = lower86.explain(lowered)
    assert explanation.foreign == ()
    found = [op.macs for op in explanation.operators if op.operator == "linear" and op.is_int8]
    assert sorted(found) == sorted(wanted.values())
    assert found
    agree(quantized, lowered, *inputs, compare=near if model == "mlp" else _close)


def _close(got: Tensor, expected: Tensor) -> None:
    # One flipped rounding step of a quantization is worth a hundredth here.
    assert got.shape == expected.shape
    assert float((got - expected).norm() / expected.norm()) < 2e-2


def test_a_shared_symmetric_scale_is_refused_with_a_way_out() -> None:
    kind, inputs = MODELS["attention"]
    with pytest.raises(lower86.Lower86Error, match="several layers read one value") as caught:
        quantize(kind(), inputs, quantizer=QUANTIZERS["own dynamic symmetric"]())
    assert "per_token=True" in caught.value.fix


@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_that_export_has_taken_apart(symmetric: bool) -> None:
    x = torch.randn(2, 5, 16)
    quantizer = _own(mode="dynamic", per_token=True, symmetric_activations=symmetric)
    quantized = quantize(MLP(), (x,), quantizer=quantizer)
    apart = torch.export.export(quantized, (x,)).run_decompositions().module()
    assert not any("affine" in str(node.target) for node in apart.graph.nodes)
    lowered = lower(apart, x)
    assert len(lower86.explain(lowered).operators) == 2
    agree(quantized, lowered, x, compare=near)


def test_arithmetic_that_only_looks_like_rows() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 4)

        def forward(self, q: Tensor, scale: Tensor, zero: Tensor, columns: Tensor) -> list[Tensor]:
            weight = self.linear.dequantized()
            real = [(q.float() - zero) * scale, (q.float() - zero.int().float()) * columns, q.float() * scale]
            return [nn.functional.linear(x, weight) for x in real]

    q = torch.randint(0, 256, (3, 8), dtype=torch.uint8)
    inputs = (q, torch.rand(3, 1), torch.rand(3, 1) * 9, torch.rand(3, 8))
    model = Looks()
    lowered = lower86.lower_pt2e_quantized_to_x86(model, inputs, on_fallback="ignore")
    assert not any(r.is_int8 for r in lower86.explain(lowered).operators)
    agree(model, lowered, *inputs, compare=torch.testing.assert_close)


class Affine(nn.Module):
    """A linear as torchao's affine operators write it, with blocks of their own for activation and weight."""

    def __init__(self, activation: list[int] | None, weight: list[int], *, symmetric: bool = False) -> None:
        super().__init__()
        self.activation, self.block, self.symmetric = activation, weight, symmetric
        self.shape: tuple[int, ...] | None = None
        self.register_buffer("weight", torch.randint(-128, 128, (12, 16), dtype=torch.int8))
        scales = 12 * 16 // math.prod(weight)
        self.register_buffer("scale", 2.0 ** -torch.arange(6, 6 + scales).remainder(4).add(6).float())
        self.register_buffer("zero", torch.zeros(scales, dtype=torch.int32) if not symmetric else None)

    def forward(self, x: Tensor) -> Tensor:
        ao = torch.ops.torchao
        block = self.activation or list(x.shape)
        mapping, low, high = ("SYMMETRIC", -127, 127) if self.symmetric else ("ASYMMETRIC", -128, 127)
        scale, zero = ao.choose_qparams_affine(
            x, mapping, block, torch.int8, low, high, 1e-6, torch.float32, torch.int32
        )
        q = ao.quantize_affine(x, block, scale, zero, torch.int8, low, high)
        real = ao.dequantize_affine(q, block, scale, zero, torch.int8, low, high)
        real = real if self.shape is None else real.reshape(self.shape)
        return nn.functional.linear(
            real, ao.dequantize_affine(self.weight, self.block, self.scale, self.zero, torch.int8)
        )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("weight", [[12, 16], [1, 16]], ids=str)
@pytest.mark.parametrize("activation", [None, [1, 1, 16]], ids=str)
def test_affine_operators(activation: list[int] | None, weight: list[int], symmetric: bool) -> None:
    x = torch.randn(3, 5, 16) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    model = Affine(activation, weight, symmetric=symmetric)
    lowered = lower(model, x)
    assert lower86.explain(lowered).int8_fraction == 1
    agree(model, lowered, x, compare=lambda got, want: torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6))


BLOCKS: dict[str, tuple[list[int] | None, list[int], str]] = {
    "weight": (None, [1, 8], "the weight is quantized in blocks"),
    "activation": ([1, 1, 4], [1, 16], "the activation is quantized in blocks"),
    "both": ([1, 1, 4], [1, 8], "the activation is quantized in blocks"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_within_a_row_stay_float_and_say_so(name: str) -> None:
    *blocks, reason = BLOCKS[name]
    x, model = torch.randn(3, 5, 16), Affine(*blocks)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, (x,), on_fallback="ignore")
    (operator,) = lower86.explain(lowered).operators
    assert operator.reason.startswith(reason)
    agree(model, lowered, x, compare=near)


class Float8(nn.Module):
    """A weight in eight-bit floats, which no integer limits describe."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(12, 16).to(torch.float8_e4m3fn))
        self.register_buffer("scale", torch.rand(12) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        dequantize = torch.ops.torchao.dequantize_affine
        return nn.functional.linear(x, dequantize(self.weight, [1, 16], self.scale, None, torch.float8_e4m3fn))


def test_eight_bit_floats_are_computed_all_the_same() -> None:
    model, x = Float8(), torch.randn(3, 16)
    agree(model, lower86.lower_pt2e_quantized_to_x86(model, (x,), on_fallback="ignore"), x, compare=near)


def test_parameters_called_dequantize_are_floats() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dequantize_w = nn.Parameter(torch.randn(4, 16))

        def forward(self, dequantized_x: Tensor) -> Tensor:
            return nn.functional.linear(dequantized_x, self.dequantize_w)

    lowered = lower86.lower_pt2e_quantized_to_x86(Named(), (torch.randn(3, 16),), on_fallback="ignore")
    assert lower86.explain(lowered).operators == ()


def test_rows_dequantized_and_then_reshaped() -> None:
    model, x = Affine([1, 1, 16], [12, 16]), torch.randn(3, 5, 16)
    model.shape = (15, 16)
    lowered = lower(model, x)
    agree(model, lowered, x, compare=near)


class Tokens(nn.Module):
    """A linear of rows with parameters of their own, in `quantized_decomposed`'s words."""

    def __init__(self, choose: str) -> None:
        super().__init__()
        self.choose = choose
        self.register_buffer("weight", torch.randint(-128, 128, (12, 16), dtype=torch.int8))
        self.register_buffer("scale", 2.0 ** -torch.arange(6, 18).remainder(4).add(6).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        qd = torch.ops.quantized_decomposed
        scale, zero = getattr(qd, self.choose)(x, torch.int8)
        q = qd.quantize_per_token(x, scale, zero, -128, 127, torch.int8)
        real = qd.dequantize_per_token(q, scale, zero, -128, 127, torch.int8, torch.float32)
        weight = qd.dequantize_per_channel(self.weight, self.scale, None, 0, -128, 127, torch.int8)
        return nn.functional.linear(real, weight), real + 1


@pytest.mark.parametrize("choose", ["choose_qparams_per_token", "choose_qparams_per_token_asymmetric"])
def test_per_token_operators(choose: str) -> None:
    x = torch.randn(3, 5, 16) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    model = Tokens(choose)
    lowered = lower(model, x)
    assert lower86.explain(lowered).int8_fraction == 1
    agree(model, lowered, x, compare=lambda got, want: torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6))


def test_rows_whose_number_varies() -> None:
    x, rows = torch.randn(4, 16), torch.export.Dim("rows")
    model = Affine([1, 16], [1, 16])
    lowered = lower(model, x, dynamic_shapes=({0: rows},))
    assert lower86.explain(lowered).int8_fraction == 1
    for count in (1, 2, 7, 40):
        agree(model, lowered, torch.randn(count, 16), compare=near)
