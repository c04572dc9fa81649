"""Which recurrent layers become int8, and why the others do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.ops.recurrent import gru, int8_gru
from tests.models.qdq import Q
from tests.models.recurrent import U8


class Gru(nn.Module):
    """The operator with a weight that is dequantized as `weight` says, or not at all."""

    def __init__(self, weight: str = "rows", *, constant: bool = True, state: dict[str, Any] = U8) -> None:
        super().__init__()
        self.kind, self.state, self.constant = weight, state, constant
        dtype = torch.uint8 if weight == "u8" else torch.int8
        self.register_buffer("weight", torch.randint(0, 128, (9, 3)).to(dtype))
        self.register_buffer("scales", torch.rand(9) * 0.01)
        self.register_buffer("zeros", torch.ones(9, dtype=torch.int64) * (3 if weight == "zero point" else 0))

    def forward(self, x: Tensor, h: Tensor, offset: Tensor) -> Tensor:
        integers = self.weight if self.constant else self.weight + offset
        info = torch.iinfo(self.weight.dtype)
        last = (info.min, info.max, self.weight.dtype)
        if self.kind == "float":
            weight = integers.float() * 0.01
        elif self.kind == "one":
            weight = Q.dequantize_per_tensor(integers, 0.01, 0, *last)
        elif self.kind == "columns":
            weight = Q.dequantize_per_channel(integers, self.scales[:3], self.zeros[:3], 1, *last)
        else:
            weight = Q.dequantize_per_channel(integers, self.scales, self.zeros, 0, *last)
        return gru(x, h, weight, **self.state)


def lower(model: nn.Module) -> tuple[lower86.LoweredModule, float]:
    """The lowered model, and how far its result is from the model's."""
    inputs = (torch.randn(4, 2, 9), torch.rand(2, 3), torch.zeros(9, 3, dtype=torch.int8))
    lowered = lower86.lower_pt2e_quantized_to_x86(model, inputs, on_fallback="ignore")
    return lowered, float((lowered(*inputs) - model(*inputs)).abs().max())


@pytest.mark.parametrize("weight", ["rows", "one"])
def test_a_quantized_layer_is_int8(weight: str) -> None:
    lowered, error = lower(Gru(weight))
    assert error < 1e-4
    (record,) = lower86.explain(lowered).operators
    assert record.is_int8
    assert record.macs == 4 * 2 * 9 * 3
    again = lower86.lower_pt2e_quantized_to_x86(
        lowered, (torch.randn(4, 2, 9), torch.rand(2, 3), torch.zeros(9, 3).char())
    )
    assert [node.target for node in again.graph.nodes].count(int8_gru) == 1
    assert lower86.explain(again).int8_fraction == 1.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weight": "float"}, "only the state is quantized"),
        ({"state": {}}, "only the weight is quantized; the state is float"),
        ({"weight": "u8"}, "the weight is not s8 around zero"),
        ({"weight": "zero point"}, "the weight is not s8 around zero"),
        ({"weight": "columns"}, "the weight is quantized along axis 1"),
        ({"constant": False}, "the weight is not a constant"),
    ],
    ids=str,
)
def test_refusals_say_why(options: dict[str, Any], reason: str) -> None:
    lowered, error = lower(Gru(**options))
    assert error < 1e-4
    explanation = lower86.explain(lowered)
    assert [r.reason.startswith(reason) for r in explanation.refused] == [True]
    assert explanation.foreign == ()
