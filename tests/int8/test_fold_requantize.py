"""Contractions that are quantized at once count in the quantization's steps; all others are left as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lower86.graph.arguments import arguments
from lower86.graph.qparams import is_plain_quantize
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower_anyhow
from tests.models.qdq import Linear, Scale, grid
from tests.models.qdq_conv import Conv

OUT, OTHER = Scale(2.0**-2, 3), Scale(2.0**-3, 0)
Use = Callable[[Tensor, Tensor], Any]


class Requantized(nn.Module):
    """What `use` makes of a contraction and of the input it had."""

    def __init__(self, part: nn.Module, use: Use) -> None:
        super().__init__()
        self.part, self.use = part, use

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.use(self.part(x), y)


FOLDED: dict[str, Use] = {
    "at once": lambda a, y: OUT(a),
    "relu": lambda a, y: OUT(torch.relu(a)),
    "relu6": lambda a, y: OUT(nn.functional.relu6(a)),
    "above": lambda a, y: OUT(torch.clamp(a, min=-1.5)),
    "below": lambda a, y: OUT(torch.clamp(a, max=2.25)),
    "a residual": lambda a, y: OUT(torch.relu(a + OTHER(y))),
    "a residual in front": lambda a, y: OUT(OTHER(y) + torch.relu(a)),
    "two residuals": lambda a, y: OUT(OTHER(y) + a + OUT(y)),
}
TINY, HUGE = Scale(2.0**-110, 3), Scale(2.0**120, 3)
LEFT: dict[str, Use] = {
    "read twice": lambda a, y: (OUT(a), a * 2),
    "two scales": lambda a, y: (OUT(a), OTHER(a)),
    "a float residual": lambda a, y: OUT(a + y),
    "times alpha": lambda a, y: OUT(torch.add(a, OTHER(y), alpha=2)),
    "another function": lambda a, y: OUT(torch.tanh(a)),
    "to itself": lambda a, y: OUT(a + a),
    "returned": lambda a, y: (OUT(torch.relu(a)), a),
    "tiny steps": lambda a, y: TINY(a),
    "huge steps": lambda a, y: HUGE(a),
    "no contraction": lambda a, y: (OUT(OTHER(y)), a),
}


def scales_of(lowered: LoweredModule) -> list[float]:
    """Of the quantizations that do not read an input."""
    nodes = [n for n in lowered.graph.nodes if is_plain_quantize(n) and n.args[0].op != "placeholder"]
    return [arguments(n)["scale"] for n in nodes]


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("use", [*FOLDED, *LEFT])
def test_what_is_folded(use: str, kind: str) -> None:
    part, x = (Linear(16, 16), grid(6, 16)) if kind == "linear" else (Conv(3, 6, (1, 1)), grid(2, 3, 5, 4))
    y = part(x) * 0 + grid(*part(x).shape)
    model = Requantized(part, {**FOLDED, **LEFT}[use])
    lowered = lower_anyhow(model, x, y)
    agree(model, lowered, x, y)
    scales = scales_of(lowered)
    assert (set(scales) == {1.0}) == (use in FOLDED), scales


SIZES: dict[str, Use] = {
    "a bound": lambda a, y: OUT(torch.clamp(a, max=y.shape[0])),
    "a summand": lambda a, y: OUT(a + y.shape[0]),
    "alpha": lambda a, y: OUT(torch.add(a, OTHER(y), alpha=y.shape[0])),
    "without a contraction": lambda a, y: (a, OUT(y + y.shape[0])),
}


@pytest.mark.parametrize("use", SIZES)
def test_sizes_of_dynamic_shapes(use: str) -> None:
    model, x = Requantized(Linear(16, 16), SIZES[use]), grid(3, 16)
    lowered = lower_anyhow(model, x, grid(3, 16), dynamic_shapes=({0: (b := torch.export.Dim("b", min=2))}, {0: b}))
    for rows in (3, 2, 9):
        agree(model, lowered, grid(rows, 16), grid(rows, 16))


def test_a_model_that_is_lowered_again() -> None:
    model, x = Requantized(Conv(3, 6), FOLDED["relu6"]), grid(2, 3, 8, 8)
    y = torch.zeros(1)
    lowered = lower_anyhow(model, x, y)
    agree(model, lower_anyhow(lowered, x, y), x, y)
