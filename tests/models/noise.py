"""How near a lowered network can be to its quantized model at all.

A quarter of the quantization's own error is near. But one rounding that falls the other way, early in a deep network,
moves all the later ones: then it is as far as the model is from itself with other last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter

_CONTRACTIONS = ("conv", "linear", "matmul", "addmm", "attention")


class Nudged(Interpreter):
    """The same model, its contractions one bit further: what another order of additions may give."""

    def __init__(self, model: GraphModule, bits: int) -> None:
        super().__init__(model)
        self.factor = 1 + bits * 2.0**-23

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, args, kwargs)
        return result * self.factor if any(name in str(target) for name in _CONTRACTIONS) else result


def distance(a: Tensor, b: Tensor) -> float:
    """How far a is from b, relative to b."""
    return ((a - b).norm() / b.norm()).item()


def floor(quantized: GraphModule, inputs: Sequence[tuple[Tensor, ...]], bits: Sequence[int] = (-1, 1)) -> float:
    """The largest distance, over the inputs, of a nudged model's result from the model's own."""
    with torch.no_grad():
        pairs = [(given, quantized(*given)) for given in inputs]
        return max(distance(Nudged(quantized, n).run(*given), result) for given, result in pairs for n in bits)
