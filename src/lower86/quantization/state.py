"""Buffers that a model writes to as it runs: what runs only to look leaves them as they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..frontend import torchao


def held(prepared: GraphModule) -> dict[str, Tensor]:
    """Copies of all buffers that are not an observer's own, by name."""
    observers = tuple(f"{name}." for name, module in prepared.named_modules() if name and torchao.is_observer(module))
    return {
        name: buffer.detach().clone() for name, buffer in prepared.named_buffers() if not name.startswith(observers)
    }


def changed(prepared: GraphModule, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of `before`, which `held` gave, what has other values now."""
    now = dict(prepared.named_buffers())
    return {name: tensor for name, tensor in before.items() if name in now and not now[name].equal(tensor)}


def restore(prepared: GraphModule, before: Mapping[str, Tensor]) -> None:
    """Gives the buffers these values again."""
    now = dict(prepared.named_buffers())
    with torch.no_grad():
        for name, tensor in before.items():
            if name in now:
                now[name].copy_(tensor)
