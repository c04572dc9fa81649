"""What is ignored stays float; what matches nothing is an error with what is near."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import lower86
from lower86 import Lower86Error, X86Quantizer
from tests.models.quantized import inductors
from tests.models.small import MLP

X = [torch.randn(2, 16) for _ in range(3)]


def _weights(quantized: GraphModule) -> int:
    """The number of quantized weights."""
    return sum("dequantize_per_channel" in str(node.target) for node in quantized.graph.nodes)


@pytest.mark.parametrize(
    ("ignored", "left"),
    [(["up"], 1), ("d*", 1), ([nn.Linear], 0), ([nn.functional.linear], 0), ([], 2), (["up", "down"], 0)],
)
def test_what_stays_float(ignored: Any, left: int) -> None:
    quantizer = X86Quantizer()
    for given in (None, quantizer):
        quantized = lower86.quantize(MLP(), X, ignored=ignored, quantizer=given, progress=False)
        assert _weights(quantized) == left
    again = lower86.quantize(MLP(), X, quantizer=quantizer, progress=False)
    assert _weights(again) == 2, "the caller's quantizer is as it was"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("upp", "did you mean up"),
        ("encoder.*", "the model has down, up"),
        (nn.Conv2d, "the type Conv2d matches nothing"),
        (torch.matmul, "the function matmul matches nothing"),
        (3, "names nothing to ignore"),
    ],
)
def test_what_matches_nothing(entry: Any, message: str) -> None:
    with pytest.raises(Lower86Error, match=message):
        lower86.quantize(MLP(), X, ignored=[entry], progress=False)


def test_a_foreign_quantizer_has_its_own_way() -> None:
    with pytest.raises(Lower86Error, match="X86InductorQuantizer cannot be told"):
        lower86.quantize(MLP(), X, ignored=["up"], quantizer=inductors(), progress=False)
