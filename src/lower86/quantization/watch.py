"""What is kept of an activation while calibration inputs run through the model.

The histogram lies around zero and reaches to a power of two. Where values reach further, it grows to twice the range
by adding neighbours up, so that every count stays exact, whatever the order of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..errors import Lower86Error
from ..graph.source import describe
from .progress import Track
from .slots import Slot, standing_in

_BINS = 16384
_LARGEST = 2.0**127
_SAMPLE, _ROWS = 1 << 18, 96
"""At most so many values of a layer's input are kept as they are; of a linear's, so many rows a call."""


class Watch(nn.Module):
    """Stands in place of an observer and passes values on."""

    def __init__(self, slot: Slot, generator: torch.Generator) -> None:
        super().__init__()
        self._slot, self._generator = slot, generator
        self._reach = 0.0
        self._counts = torch.zeros(_BINS, dtype=torch.float64)
        self.low, self.high = math.inf, -math.inf
        self.channel_low: Tensor | None = None
        self.channel_high: Tensor | None = None
        self.sample: list[Tensor] = []
        self._kept = 0

    def forward(self, x: Tensor) -> Tensor:
        """Counts the values of x, of any shape. Raises Lower86Error for NaN and infinities."""
        values = x.detach().to(torch.float32)
        if not values.numel():
            return x
        low, high = (float(end) for end in torch.aminmax(values))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise Lower86Error(
                "a value to be quantized is NaN or infinite",
                where=describe(self._slot.source),
                fix="look for an input that is too large or for a division by zero, or ignore this layer: ignored=[…]",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._count(values, max(abs(low), abs(high)))
        if self._slot.kind in ("linear", "convolution"):
            self._keep(values)
        return x

    @property
    def was_seen(self) -> bool:
        """Whether any value came by."""
        return self.low <= self.high

    @property
    def spread(self) -> tuple[Tensor, Tensor]:
        """The middles of the bins that are not empty, in ascending order, and their counts; float64."""
        filled = self._counts.nonzero()[:, 0]
        width = 2 * self._reach / _BINS
        return (filled.to(torch.float64) + 0.5) * width - self._reach, self._counts[filled]

    def _count(self, values: Tensor, largest: float) -> None:
        wanted = 2.0 ** math.ceil(math.log2(max(largest, 1e-30)))
        values = values if wanted < _LARGEST else values.to(torch.float64)  # torch counts up to numbers of their dtype
        self._reach = self._reach or wanted
        while self._reach < wanted:
            wider = torch.zeros_like(self._counts)
            wider[_BINS // 4 : 3 * _BINS // 4] = self._counts[0::2] + self._counts[1::2]
            self._counts, self._reach = wider, 2 * self._reach
        self._counts += torch.histc(values, _BINS, -self._reach, self._reach).to(torch.float64)

    def _keep(self, values: Tensor) -> None:
        dim = values.dim() - self._slot.spatial - 1
        others = [d for d in range(values.dim()) if d != dim]
        low, high = (values.amin(others), values.amax(others)) if others else (values, values)
        self.channel_low = low if self.channel_low is None else torch.minimum(self.channel_low, low)
        self.channel_high = high if self.channel_high is None else torch.maximum(self.channel_high, high)
        if self._slot.kind == "linear":
            rows = values.reshape(-1, values.shape[-1])
            part = rows[torch.randperm(len(rows), generator=self._generator)[:_ROWS]]
        else:
            part = values if dim == 0 else values[: max(1, _SAMPLE // 8 * len(values) // values.numel())]
        if self._kept + part.numel() <= _SAMPLE or not self.sample:
            self.sample.append(part.clone())
            self._kept += part.numel()


def watch(
    prepared: GraphModule, slots: Sequence[Slot], calls: Sequence[Sequence[Any]], track: Track, seed: int
) -> Mapping[str, Watch]:
    """What came by at each activation's slot when the flat inputs `calls` ran through the model, by slot name."""
    generator = torch.Generator().manual_seed(seed)
    found = {slot.name: Watch(slot, generator) for slot in slots if slot.kind != "weight"}
    modules = {str(call.target): found[slot.name] for slot in slots if slot.name in found for call in slot.calls}
    with standing_in(prepared, modules):
        for leaves in track(calls, "Calibrate"):
            run(prepared, leaves)
    return found


def run(graph: GraphModule, leaves: Sequence[Any]) -> Any:
    """The flat results for flat inputs, which stay as they are even if the graph writes to them."""
    try:
        return torch.fx.Interpreter(graph).run(*fresh(leaves), enable_io_processing=False)
    except Lower86Error as problem:  # without what torch's interpreter has added to its text
        raise type(problem)(problem.what, where=problem.where, fix=problem.fix) from None


def fresh(leaves: Sequence[Any]) -> list[Any]:
    """Copies of the inputs."""
    return [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
