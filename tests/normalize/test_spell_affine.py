"""torchao's affine functions and PyTorch's decomposed operators: two spellings, one program, or one refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization import choose_qparams_affine, dequantize_affine, quantize_affine
from torchao.quantization.quant_primitives import MappingType

import lower86
from tests.models.checks import agree, lower, lower_anyhow, near

Q = torch.ops.quantized_decomposed
F = nn.functional


def linear(x: Tensor, w: Tensor) -> Tensor:
    return F.linear(x, w)


def conv(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, padding=1)


def transposed(x: Tensor, w: Tensor) -> Tensor:
    return F.conv_transpose2d(x, w)


CONTRACTIONS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], int]] = {
    "linear": (linear, (5, 16), (12, 16), 0),
    "convolution": (conv, (2, 4, 6, 6), (8, 4, 3, 3), 0),
    "transposed": (transposed, (2, 4, 6, 6), (4, 8, 3, 3), 1),
}


class Static(nn.Module):
    """A contraction of an activation with one scale and a weight with one for each output channel."""

    def __init__(self, name: str, affine: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.contraction, _, shape, self.axis = CONTRACTIONS[name]
        self.affine, self.dtype = affine, dtype
        self.register_buffer("weight", torch.randint(-127, 128, shape, dtype=torch.int8))
        self.register_buffer("scale", torch.rand(shape[self.axis]) * 0.02 + 0.001)
        self.register_buffer("zero", torch.zeros(shape[self.axis], dtype=torch.int32))
        self.given = (0.03125, 100 if dtype == torch.uint8 else -9)
        self.register_buffer("x_scale", torch.tensor(self.given[0]))
        self.register_buffer("x_zero", torch.tensor(self.given[1], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        info = torch.iinfo(self.dtype)
        limits = (info.min, info.max, self.dtype)
        if not self.affine:
            q = Q.quantize_per_tensor(x, *self.given, *limits)
            real = Q.dequantize_per_tensor(q, *self.given, *limits)
            w = Q.dequantize_per_channel(self.weight, self.scale, self.zero, self.axis, -128, 127, torch.int8)
            return torch.relu(self.contraction(real, w))
        block, shape = tuple(x.shape), [*self.weight.shape]
        shape[self.axis] = 1
        q = quantize_affine(x, block, self.x_scale, self.x_zero, self.dtype, info.min, info.max)
        real = dequantize_affine(q, block, self.x_scale, self.x_zero, self.dtype, info.min, info.max)
        w = dequantize_affine(self.weight, tuple(shape), self.scale, self.zero, torch.int8, -128, 127)
        return torch.relu(self.contraction(real, w))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8], ids=str)
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_both_spellings_are_one_program(name: str, dtype: torch.dtype) -> None:
    models = [Static(name, affine, dtype) for affine in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(CONTRACTIONS[name][1])
    decomposed, affine = (lower(model, x) for model in models)
    assert lower86.explain(affine).int8_fraction == 1
    first, second = ([(k.kind, k.shape) for k in lower86.explain(each).kernels] for each in (affine, decomposed))
    assert first == second
    assert torch.equal(affine(x), decomposed(x))
    agree(models[1], affine, x, compare=near)


class Dynamic(nn.Module):
    """A linear whose activation has scales from run time: blocks of it as `block` says, 0 standing for a whole dim."""

    def __init__(self, block: tuple[int, ...], mapping: MappingType, weight: tuple[int, int]) -> None:
        super().__init__()
        self.block, self.mapping, self.weight_block = block, mapping, weight
        self.register_buffer("weight", torch.randint(-127, 128, (12, 16), dtype=torch.int8))
        count = 12 * 16 // (weight[0] * weight[1])
        self.register_buffer("scale", torch.rand(count).reshape(12 // weight[0], -1) * 0.02 + 0.001)

    def forward(self, x: Tensor) -> Tensor:
        block = tuple(size or whole for size, whole in zip(self.block, x.shape, strict=True))
        scale, zero = choose_qparams_affine(x, self.mapping, block, torch.int8, eps=1e-6)
        q = quantize_affine(x, block, scale, zero, torch.int8)
        real = dequantize_affine(q, block, scale, zero, torch.int8)
        return F.linear(real, dequantize_affine(self.weight, self.weight_block, self.scale, None, torch.int8))


@pytest.mark.parametrize("mapping", [MappingType.SYMMETRIC, MappingType.ASYMMETRIC], ids=str)
@pytest.mark.parametrize("block", [(0, 0, 0), (1, 1, 0)], ids=["tensor", "token"])
def test_parameters_from_run_time(block: tuple[int, ...], mapping: MappingType) -> None:
    model, x = Dynamic(block, mapping, (1, 16)), torch.randn(2, 3, 16)
    lowered = lower(model, x)
    assert lower86.explain(lowered).int8_fraction == 1
    agree(model, lowered, x, compare=near)


REFUSED = {
    "a scale a channel": ((0, 0, 1), (1, 16), "the activation is quantized"),
    "groups of rows": ((1, 3, 8), (1, 16), "the activation is quantized in blocks"),
    "groups in the weight": ((0, 0, 0), (1, 4), "the weight is quantized in blocks"),
    "groups of channels": ((0, 0, 0), (3, 16), "the weight is quantized in blocks"),
    "a scale an input": ((0, 0, 0), (12, 1), "the weight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_blocks_that_no_contraction_can_take_out_of_its_sum(name: str) -> None:
    *blocks, reason = REFUSED[name]
    model, x = Dynamic(blocks[0], MappingType.SYMMETRIC, blocks[1]), torch.randn(2, 3, 16)
    lowered = lower_anyhow(model, x)
    (operator,) = lower86.explain(lowered).operators
    assert not operator.is_int8
    assert operator.reason.startswith(reason)
    agree(model, lowered, x, compare=near)
