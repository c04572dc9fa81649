"""Small real programs, one for each thing that programs can do: what the fuzzer mutates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import lower86
from lower86.ops.attention import int8_attention
from lower86.ops.matmul import int8_matmul
from lower86.ops.recurrent import int8_lstm
from lower86.program.program import Program
from tests.models.qdq import S8 as S8_SCALE
from tests.models.qdq import U8 as U8_SCALE
from tests.models.quantized import quantize
from tests.models.recurrent import U8, operands
from tests.models.small import MLP, Attention, Embedding
from tests.schedule.operators import lowered

A = torch.ops.aten


class Image(nn.Module):
    """An image through a padded convolution, a depthwise one and a pool: Fill, Interleave, Contraction, Depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 20, 3, padding=1, stride=2)
        self.second = nn.Conv2d(20, 20, 3, padding=1, groups=20)
        self.last = nn.Conv2d(20, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        y = torch.relu(self.second(y))
        return torch.nn.functional.max_pool2d(self.last(y), 2)


class Cache(nn.Module):
    """A cache of rows that a call writes to at an index, and reads."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("rows", torch.zeros(5, 8))

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        self.rows.index_copy_(0, at, self.linear(x))
        return self.rows.sum(0)


def _quantized(model: nn.Module, inputs: tuple[Tensor, ...], shapes: Any = None) -> Program:
    quantized = quantize(model, inputs, dynamic_shapes=shapes)
    return lower86.lower_pt2e_quantized_to_x86(quantized, inputs).program


def _of(operator: Any, *args: Any, result: int | None = None, **kwargs: Any) -> Program:
    return lowered(operator, *args, result=result, **kwargs)[0].program


def _attention(integer: bool, keys: int = 19) -> Program:
    q, k = torch.randn(2, 2, 7, 20), torch.randn(2, 2, keys, 20)
    if not integer:
        return _of(A.scaled_dot_product_attention.default, q, k, k, torch.rand(7, keys) > 0.3)
    byte = [(t * 20 + 100).clamp(0, 255).to(torch.uint8) for t in (q, k, k)]
    weights = {"weight_scale": 1 / 255, "weight_zero_point": 0, "weight_low": 0, "weight_high": 255}
    zeros = {"query_zero_point": 100, "key_zero_point": 100, "value_zero_point": 100}
    return _of(int8_attention, *byte, score_scale=0.01, scale=0.01, **zeros, **weights)


def _product(*shape: int) -> Program:
    """Two activations, the right one […, k, n] packed when it runs, and sums of the left one's rows."""
    *batch, m, k, n = shape
    x, y = (torch.randint(0, 255, (*batch, *rest), dtype=torch.uint8) for rest in ((m, k), (k, n)))
    scale = nn.Parameter(torch.tensor(0.01), requires_grad=False)
    return _of(int8_matmul, x, y, x_zero_point=100, y_zero_point=90, scale=scale)


class Product(nn.Module):
    """Two activations, quantized by hand."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(U8_SCALE(x), S8_SCALE(y)).relu()


def _lstm() -> Program:
    given = operands("lstm", 3, 2, 19, integer=True)
    scale = nn.Parameter(torch.rand(len(given[-1])) * 2e-5, requires_grad=False)
    return _of(int8_lstm, *given, **U8, scale=scale, result=0)


_B, _N = (torch.export.Dim(name, max=64) for name in "bn")
_MAKERS: Mapping[str, Callable[[], Program]] = {
    "mlp": lambda: _quantized(MLP(), (torch.randn(3, 16),)),
    "mlp of any batch": lambda: _quantized(MLP(), (torch.randn(3, 16),), ({0: _B},)),
    "attention of any length": lambda: _quantized(
        Attention(), (torch.randn(3, 5, 16), torch.rand(3, 5) > 0.2), ({0: _B, 1: _N}, {0: _B, 1: _N})
    ),
    "embedding": lambda: _quantized(Embedding(), (torch.randint(0, 50, (3, 7)),)),
    "image": lambda: _quantized(Image(), (torch.randn(1, 3, 12, 14),)),
    "bf16": lambda: _quantized(MLP().bfloat16(), (torch.randn(3, 16).bfloat16(),)),
    "float linear": lambda: _of(A.linear.default, torch.randn(5, 17), nn.Parameter(torch.randn(70, 17)), None),
    "float attention": lambda: _attention(False),
    "int8 attention": lambda: _attention(True),
    "lstm": _lstm,
    "softmax": lambda: _of(A.softmax.int, torch.randn(3, 5, 17), 2),
    "layer norm": lambda: _of(A.layer_norm.default, torch.randn(3, 17), [17]),
    "columns": lambda: _of(A.amax.default, torch.randn(3, 5, 17), [1]),
    "any": lambda: _of(A.any.dim, torch.rand(3, 5) > 0.9, 1),
    "gather": lambda: _of(A.gather.default, torch.randn(11, 6), 0, torch.tensor([[0, 10, 3], [7, 7, 1]])),
    "put": lambda: _of(A.index_put.default, torch.randn(3, 5, 7), [None, torch.tensor([-1, 0])], torch.randn(3, 2, 7)),
    "pad": lambda: _of(A.constant_pad_nd.default, torch.randn(3, 5, 17), [2, 1, 0, 3], 0.5),
    "matmul": lambda: _of(A.matmul.default, torch.randn(3, 5, 17), torch.randn(3, 17, 20)),
    "int8 product": lambda: _product(2, 7, 19, 70),
    "int8 product of vectors": lambda: _product(3, 35, 1),
    "int8 products of any length": lambda: lower86.lower_pt2e_quantized_to_x86(
        Product(), (torch.randn(2, 5, 16), torch.randn(2, 16, 9)), dynamic_shapes=({0: _B}, {0: _B, 2: _N})
    ).program,
    "whole numbers": lambda: _of(A.div.Scalar_mode, torch.arange(40), 7, rounding_mode="floor"),
    "shifts": lambda: _of(A.__lshift__.Tensor, torch.arange(40), torch.arange(40) - 4),
    "cache": lambda: _quantized(Cache(), (torch.randn(1, 8), torch.tensor([3]))),
    "depthwise": lambda: _of(
        A.conv2d.default, torch.randn(1, 20, 6, 7), nn.Parameter(torch.randn(20, 1, 3, 3)), None, [1, 1], [1, 1],
        [1, 1], 20,
    ),
}  # fmt: skip


@cache
def programs() -> Mapping[str, Program]:
    """The programs, by name. Lowers them at the first call."""
    torch.manual_seed(0)
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lower86.Lower86Warning)
        for name, make in _MAKERS.items():
            made[name] = make()
    return made
