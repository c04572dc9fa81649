"""Operands of the recurrent operators, and a model of a recurrent layer that takes its initial state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def operands(
    cell: str, times: int = 7, batch: int = 5, width: int = 19, *, integer: bool = False, constant: bool = True
) -> list[Any]:
    """x, the initial state, that of the cells for an LSTM, weight, bias; the last two as parameters if `constant`."""
    gates = 4 if cell == "lstm" else 3
    weight = torch.randn(gates * width, width) * 0.3
    if integer:
        weight = torch.randint(-128, 128, weight.shape).to(torch.int8)
    last = [weight, torch.randn(gates * width)]
    state = [torch.rand(batch, width) * 2 - 1 for _ in range(2 if cell == "lstm" else 1)]
    given = [nn.Parameter(t, requires_grad=False) for t in last] if constant else last
    return [torch.randn(times, batch, gates * width), *state, *given]


U8: dict[str, Any] = {"h_scale": 0.0073, "h_zero_point": 126, "h_low": 0, "h_high": 255}
S8: dict[str, Any] = {"h_scale": 0.0081, "h_zero_point": 0, "h_low": -127, "h_high": 127}


class WithState(nn.Module):
    """The layer, with an initial state as inputs."""

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.layer(x, state if len(state) > 1 else state[0])


def layer_and_inputs(
    kind: type[nn.LSTM] | type[nn.GRU], times: int = 7, batch: int = 5, *, state: bool = False, **options: Any
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A layer of 8 inputs and 19 units in eval mode, and inputs of one call."""
    layer = kind(8, 19, **options).eval()
    shape = (batch, times, 8) if layer.batch_first else (times, batch, 8)
    if not state:
        return layer, (torch.randn(shape),)
    first = (layer.num_layers * (2 if layer.bidirectional else 1), batch, layer.proj_size or 19)
    states = [torch.rand(first) * 2 - 1 for _ in range(2 if kind is nn.LSTM else 1)]
    return WithState(layer).eval(), (torch.randn(shape), *states)
