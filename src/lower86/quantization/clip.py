"""The scales of weights: from the largest of each channel, or those of least squared error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..frontend import torchao
from ..graph.edit import tensor_at
from .slots import slots_of, weight_of

_LEAST, _CANDIDATES = 0.5, 26


def settle_weights(prepared: GraphModule, *, clipped: bool) -> str:
    """Settles the range of every weight, in place; with `clipped`, that of the least squared error. Says how many."""
    count = 0
    for slot in slots_of(prepared):
        if slot.kind == "weight":
            settle_range(slot.observer, weight_of(prepared, slot), clipped=clipped)
            count += 1
    return f"{count} weights"


def settle_weight(prepared: GraphModule, name: str, constant: Node) -> None:
    """Settles the range of one weight that has changed."""
    tensor = tensor_at(prepared, str(constant.target))
    assert tensor is not None
    settle_range(prepared.get_submodule(name), tensor.detach(), clipped=False)


def settle_range(observer: torch.nn.Module, weight: Tensor, *, clipped: bool) -> None:
    """Has a range observer stand for a weight: for all of it, or for what gives the least squared error."""
    axis = torchao.channel_axis(observer)
    rows = weight.to(torch.float32).movedim(axis, 0).flatten(1) if axis is not None else weight.reshape(1, -1)
    low, high = rows.amin(1), rows.amax(1)
    if clipped:
        largest = torch.maximum(-low, high)
        best = torch.full_like(largest, torch.inf)
        kept = largest
        for part in torch.linspace(1.0, _LEAST, _CANDIDATES):
            scale = (largest * part / 127).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
            error = (torch.clamp(torch.round(rows / scale), -128, 127) * scale - rows).square().sum(1)
            better = error < best
            best, kept = torch.where(better, error, best), torch.where(better, largest * part, kept)
        low, high = -kept, kept
    if axis is None:
        low, high = low[0], high[0]
    torchao.settle(observer, low, high)
