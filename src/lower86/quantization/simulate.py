"""A prepared graph that rounds as it will when it is quantized, at the speed of its floats.

Rounding stands in place of the observers; weights are rounded once. This is what steps are judged on: the same numbers
as the converted graph's, at a fraction of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..frontend import torchao
from ..frontend.torchao import RunTime
from .slots import Slot, slots_of, standing_in, weight_of


class Rounded(nn.Module):
    """To the integers of a settled observer and back."""

    def __init__(self, observer: Any) -> None:
        super().__init__()
        scale, zero_point = observer.calculate_qparams()
        self._scale, self._zero = scale.to(torch.float32), zero_point.to(torch.int32)
        self._low, self._high = int(observer.quant_min), int(observer.quant_max)
        self._axis = torchao.channel_axis(observer)

    def forward(self, x: Tensor) -> Tensor:
        """x, rounded; bf16 and f16 are rounded as float32."""
        values = x.to(torch.float32)
        if self._axis is None:
            rounded = torch.fake_quantize_per_tensor_affine(
                values, float(self._scale), int(self._zero), self._low, self._high
            )
        else:
            rounded = torch.fake_quantize_per_channel_affine(
                values, self._scale, self._zero, self._axis, self._low, self._high
            )
        return rounded.to(x.dtype)


class RoundedNow(nn.Module):
    """To integers with scales that are found at run time, and back."""

    def __init__(self, given: RunTime) -> None:
        super().__init__()
        self._given = given

    def forward(self, x: Tensor) -> Tensor:
        """x, rounded; bf16 and f16 are rounded as float32."""
        if not x.numel():
            return x
        given, values = self._given, x.to(torch.float32)
        dims = [-1] if given.by_rows else list(range(x.dim()))
        low, high = values.amin(dims, keepdim=True).clamp(max=0), values.amax(dims, keepdim=True).clamp(min=0)
        if given.symmetric:
            high = torch.maximum(-low, high)
            low = -high
        scale = ((high - low) / (given.high - given.low)).clamp(min=given.least_scale)
        zero = 0 if given.symmetric else given.low - torch.round(low / scale)
        integers = torch.clamp(torch.round(values / scale) + zero, given.low, given.high)
        return ((integers - zero) * scale).to(x.dtype)


class Held(nn.Module):
    """One tensor, whatever comes."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self._tensor = tensor

    def forward(self, x: Tensor) -> Tensor:
        """The tensor."""
        return self._tensor


def rounding(prepared: GraphModule) -> dict[str, nn.Module]:
    """What rounds in place of each observer, by name. Observers that keep states' ranges pass values on."""
    found: dict[str, nn.Module] = {}
    for name, module in prepared.named_modules():
        if torchao.is_observer(module):
            given = torchao.run_time(module)
            found[name] = RoundedNow(given) if given is not None else nn.Identity()
    for slot in slots_of(prepared):
        module = _rounded(prepared, slot)
        found.update((str(call.target), module) for call in slot.calls)
    return found


def _rounded(prepared: GraphModule, slot: Slot) -> nn.Module:
    module = Rounded(slot.observer)
    sources = {str(call.args[0]) for call in slot.calls}
    if slot.kind == "weight" and len(sources) == 1:
        return Held(module(weight_of(prepared, slot)))
    return module


@contextmanager
def simulated(prepared: GraphModule) -> Iterator[GraphModule]:
    """The graph, rounding; afterwards its observers are back."""
    with standing_in(prepared, rounding(prepared)):
        yield prepared
