"""The numbers of a convolution, whatever operator says them, and how its outputs split into phases.

A transposed convolution by stride s is s interleaved plain ones in each dim: output s·j + p meets only the taps t with
(p + t·dilation - low) divisible by s, at inputs j + (p + t·dilation - low)/s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.state import is_state
from ..ops.conv import int8_conv
from ..program.sizes import Size
from .conditions import in_float32

_A = torch.ops.aten


@dataclass(frozen=True)
class Convolution:
    """Options a spatial dim, as `lower86::int8_conv` has them; `fill` is what x has around it."""

    x: Node
    weight: Node
    bias: Node | None
    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...]
    groups: int
    fill: int
    is_turned: bool = False
    """Whether the weight is a transposed convolution's, [c, n/groups, taps…] and not flipped."""

    @property
    def halo(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many elements before and after x a sum may read, a spatial dim."""
        low, high = (
            tuple(max(0, pad // gap) for pad, gap in zip(pads, self.spread, strict=True))
            for pads in (self.low, self.high)
        )
        return low, high


def convolution_of(node: Node) -> Convolution | None:
    """The convolution that a node computes, or None."""
    if is_call(node, int8_conv):
        given = arguments(node)
        stride, low, high, dilation, spread = (
            tuple(given[name]) for name in ("stride", "low", "high", "dilation", "spread")
        )
        operands = (given["x"], given["weight"], given["bias"])
        return Convolution(*operands, stride, low, high, dilation, spread, given["groups"], given["x_zero_point"])
    if not is_call(node, _A.convolution.default):
        return None
    given = arguments(node)
    stride, padding, dilation = (tuple(given[name]) for name in ("stride", "padding", "dilation"))
    operands = (given["input"], given["weight"], given["bias"])
    ones = (1,) * len(stride)
    if not given["transposed"]:
        return Convolution(*operands, stride, padding, padding, dilation, ones, given["groups"], 0)
    reach = (step * (taps - 1) for step, taps in zip(dilation, shape_of(given["weight"])[2:], strict=True))
    low = tuple(r - pad for r, pad in zip(reach, padding, strict=True))
    high = tuple(pad + more for pad, more in zip(low, given["output_padding"], strict=True))
    return Convolution(*operands, ones, low, high, dilation, stride, given["groups"], 0, is_turned=True)


@dataclass(frozen=True)
class Phase:
    """Outputs `start + j·every`, for `count` j: each sums over `taps`, number i at input j·stride + first + i·step."""

    start: int
    every: int
    count: Size
    stride: int
    first: int
    step: int
    taps: Sequence[int]


def phases(taps: int, stride: int, low: int, dilation: int, spread: int, outputs: Size) -> list[Phase]:
    """The phases of one spatial dim, those that have outputs."""
    if spread == 1:
        return [Phase(0, 1, outputs, stride, -low, dilation, range(taps))]
    found = []
    step = dilation // math.gcd(dilation, spread)
    for start in range(spread):
        count = (outputs - start + spread - 1) // spread
        mine = [t for t in range(taps) if (start + t * dilation - low) % spread == 0]
        if isinstance(count, int) and count <= 0:
            continue
        first = (start + mine[0] * dilation - low) // spread if mine else 0
        # Without taps only the bias is left: a sum of nothing.
        found.append(Phase(start, spread, count, 1, first, step, mine))
    return found


def is_native_convolution(node: Node) -> bool:
    """Whether contraction kernels compute this node: a constant weight, and floats only if they are float32."""
    if is_call(node, int8_conv):
        return True
    convolution: Any = convolution_of(node)
    if convolution is None or convolution.weight.op != "get_attr" or is_state(convolution.weight):
        return False
    dtypes = {n.meta["val"].dtype for n in node.all_input_nodes}
    return in_float32(node) and len(dtypes) == 1 and 0 not in shape_of(convolution.weight)
