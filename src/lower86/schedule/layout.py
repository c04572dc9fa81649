"""How values lie in memory: channels last around convolutions, and what stands around a value for them to read.

A convolution sums over runs of channels, so its input and output have the channels last; so has everything joined to
them by operators that keep the shape. Where a convolution is padded, its input has a halo of that many elements around
it, filled once a call by whoever writes the value: the convolution then reads on without asking where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.fx import Graph, Node

from ..graph.arguments import arguments, is_call, same_shape, shape_of
from ..ops.windows import windows
from .geometry import convolution_of, is_native_convolution
from .pointwise import pointwise_of

_A = torch.ops.aten
_KEEPS_CHANNELS = (
    _A.slice.Tensor,
    _A.cat.default,
    _A.constant_pad_nd.default,
    _A.pad.default,
    _A.slice_scatter.default,
)


@dataclass(frozen=True)
class Halo:
    """How many elements stand before and after each spatial dim, and what they hold."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: float

    def covers(self, other: Halo) -> bool:
        """Whether a reader who needs `other` is served by this one."""
        enough = (a >= b for a, b in zip((*self.low, *self.high), (*other.low, *other.high), strict=True))
        return other.is_empty or (self.fill == other.fill and all(enough))

    @property
    def is_empty(self) -> bool:
        return not any((*self.low, *self.high))

    def joined(self, other: Halo) -> Halo:
        """One that serves the readers of both; of different fills, this one."""
        if other.is_empty or (self.fill != other.fill and not self.is_empty):
            return self
        low, high = (tuple(map(max, *sides)) for sides in ((self.low, other.low), (self.high, other.high)))
        return Halo(low, high, other.fill)


def channels_last(rank: int) -> tuple[int, ...]:
    """The dims of [batch, channels, spatial…] with the channels last."""
    return (0, *range(2, rank), 1)


class Layouts:
    """The order of dims and the halo of every value of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.halos: dict[Node, Halo] = {}
        neighbours: dict[Node, list[Node]] = {}
        seeds: list[Node] = []
        for node in graph.nodes:
            for other in _alike(node):
                neighbours.setdefault(node, []).append(other)
                neighbours.setdefault(other, []).append(node)
            found = halo_of(node)
            if found is not None:
                source, halo = found
                known = self.halos.get(source)
                self.halos[source] = halo if known is None else known.joined(halo)
                seeds += [source] if is_call(node, windows) else [source, node]
        self._channels_last = _reached(seeds, neighbours)

    def order(self, node: Node) -> tuple[int, ...] | None:
        """The order of the node's dims in memory, outermost first, or None where nothing asks for one."""
        return channels_last(node.meta["val"].dim()) if node in self._channels_last else None


def halo_of(node: Node) -> tuple[Node, Halo] | None:
    """What a convolution or the windows of a pool read, and the halo they want around it; None for other nodes."""
    if is_native_convolution(node):
        convolution = convolution_of(node)
        assert convolution is not None
        return convolution.x, Halo(*convolution.halo, convolution.fill)
    if is_call(node, windows):
        given = arguments(node)
        if len(shape_of(given["x"])) == 2 + len(given["kernel"]):
            return given["x"], Halo(tuple(given["low"]), tuple(given["high"]), given["fill"])
    return None


def have_same_shape(a: Node, b: Node) -> bool:
    """Whether two tensors' shapes are equal in every call; comparing torch's own sizes would make an assumption."""
    return same_shape(shape_of(a), shape_of(b))


def _alike(node: Node) -> Iterable[Node]:
    """The operands that lie as the node does."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, torch.Tensor) or value.dim() < 3:
        return ()
    operands = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    if is_call(node, _A.index.Tensor) and arguments(node)["indices"][:2] == [None, None]:
        return [arguments(node)["self"]]
    if pointwise_of(node) is not None:
        return [n for n in operands if have_same_shape(n, node)]
    if node.target in _KEEPS_CHANNELS:
        return [n for n in operands if n.meta["val"].dim() == value.dim()]
    return ()


def _reached(seeds: Iterable[Node], neighbours: Mapping[Node, list[Node]]) -> set[Node]:
    found: set[Node] = set()
    stack = list(seeds)
    while stack:
        node = stack.pop()
        if node not in found and node.op != "get_attr":
            found.add(node)
            stack += neighbours.get(node, [])
    return found
