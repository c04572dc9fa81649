"""The scales of weights: from the largest of each channel, or those of least squared error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..counted import counted
from ..errors import Lower86Error
from ..frontend import torchao
from ..graph.edit import tensor_at
from ..graph.source import describe
from .slots import slots_of, weight_of

_LEAST, _CANDIDATES = 0.5, 26


def settle_weights(prepared: GraphModule, *, clipped: bool) -> str:
    """Settles the range of every weight, in place; with `clipped`, that of the least squared error. Says how many."""
    count = 0
    for slot in slots_of(prepared):
        if slot.kind == "weight":
            weight = weight_of(prepared, slot)
            if not bool(torch.isfinite(weight).all()):
                raise Lower86Error(
                    "a weight holds NaN or infinities",
                    where=f"{slot.source.target}, {describe(slot.readers[0])}",
                    fix="look at where it comes from: it was so before quantization",
                )
            settle_range(slot.observer, weight, clipped=clipped)
            count += 1
    return counted(count, "weight")


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
        best = torch.full_like(low, torch.inf)
        kept = torch.ones_like(low)
        for part in torch.linspace(1.0, _LEAST, _CANDIDATES):
            error = (_rounded(observer, rows, low * part, high * part) - rows).square().sum(1)
            better = error < best
            best, kept = torch.where(better, error, best), torch.where(better, part, kept)
        low, high = low * kept, high * kept
    if axis is None:
        low, high = low[0], high[0]
    torchao.settle(observer, low, high)


def rounded_weight(observer: torch.nn.Module, weight: Tensor) -> Tensor:
    """The weight, to the integers of a range observer that stands for all of it, and back."""
    axis = torchao.channel_axis(observer)
    moved = weight.movedim(axis, 0) if axis is not None else weight[None]
    rows = moved.flatten(1)
    rounded = _rounded(observer, rows, rows.amin(1), rows.amax(1)).reshape(moved.shape)
    return rounded.movedim(0, axis) if axis is not None else rounded[0]


def _rounded(observer: torch.nn.Module, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Each row rounded as the observer's integers from `low` to `high` have it."""
    scale, zero = (given.reshape(-1, 1) for given in torchao.parameters(observer, low, high))
    least, most = torchao.limits(observer)
    return (torch.clamp(torch.round(rows / scale) + zero, least, most) - zero) * scale
