"""A kernel under construction: its slots, its params, and its body as an expression over graph nodes.

A body runs over some order of dims. A `Space` says how the dims of a tensor's shape follow from those, so that the
same node can be read in the full space of a row kernel (before a reduction) and in the kept one (after it), with its
channels last, or every other element of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.fx import Node

from ..program.body import Attribute, Body, BodyBuilder
from ..program.body import Node as BodyNode
from ..program.dtypes import DTYPES, computed, is_narrow
from ..program.sizes import Size
from .plan import Plan
from .symbols import DTYPE_NAMES
from .views import View


@dataclass(frozen=True)
class Axis:
    """How the index along one dim of a tensor follows from a body's: `offset` + Σ index[dim]·factor over `parts`."""

    parts: tuple[tuple[int, int], ...] = ()
    offset: int = 0

    @staticmethod
    def along(dim: int) -> Axis:
        """The body's own index along `dim`."""
        return Axis(((dim, 1),))


NOWHERE = Axis()
"""Always index 0."""


@dataclass(frozen=True)
class Space:
    """Dim i of `shape` runs along `axes[i]` of a body of `rank` dims."""

    shape: tuple[Size, ...]
    axes: tuple[Axis, ...]
    rank: int

    @staticmethod
    def of(shape: tuple[Size, ...], order: Sequence[int] | None = None, rank: int | None = None) -> Space:
        """The body's last dims are those of `shape`, in this order."""
        rank = len(shape) if rank is None else rank
        order = range(len(shape)) if order is None else order
        first = rank - len(shape)
        place = {dim: first + i for i, dim in enumerate(order)}
        return Space(shape, tuple(Axis.along(place[dim]) for dim in range(len(shape))), rank)


Read = Callable[["Emission", Node, Space], int]
"""Gives the body node for a graph node in a space."""
ViewOf = Callable[[Node], View]
"""Gives where a graph node's tensor lies in memory."""


class Emission:
    """Builds one body. `read` decides how a graph node is had: computed here, or loaded."""

    def __init__(self, plan: Plan, read: Read, view: ViewOf) -> None:
        self.plan, self._read, self.view = plan, read, view
        self.body = BodyBuilder()
        self.slots: list[tuple[int, Size]] = []
        self.params: list[tuple[str, float]] = []
        self.integers: set[int] = set()
        """Body nodes that are sums of an integer contraction, as whatever dtype."""
        self._done: dict[tuple[Node, Space], int] = {}

    def slot(self, value: int, offset: Size = 0) -> int:
        """The slot bound to `offset` bytes into `value`."""
        if (value, offset) not in self.slots:
            self.slots.append((value, offset))
        return self.slots.index((value, offset))

    def view_slot(self, view: View) -> int:
        """The slot bound to a view's first element."""
        return self.slot(view.value, view.offset * DTYPES[view.dtype].size)

    def access(self, view: View, space: Space, axes: Mapping[int, Axis] | None = None) -> tuple[int, tuple[Size, ...]]:
        """The slot and the strides by which the body walks a view, broadcast to the space's shape.

        With `axes`, the view's dims that have one there walk along it, and the others not at all.
        """
        strides: list[Size] = [0] * space.rank
        offset = view.offset
        missing = len(space.shape) - len(view.shape)
        for i, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
            axis = axes.get(i, NOWHERE) if axes is not None else space.axes[missing + i]
            if size != 1:
                offset = offset + stride * axis.offset
                for dim, factor in axis.parts:
                    strides[dim] = strides[dim] + stride * factor
        return self.view_slot(replace(view, offset=offset)), tuple(strides)

    def param(self, dtype: str, value: float) -> int:
        """A number that the step gives, so that steps that differ only in it share code."""
        self.params.append((dtype, value))
        return self.body.add("param", (), dtype, (len(self.params) - 1,))

    def const(self, dtype: str, value: float | bool) -> int:
        """A number that is part of the code."""
        kind = DTYPES[dtype].kind
        number: Attribute = bool(value) if kind == "bool" else float(value) if kind == "float" else int(value)
        return self.body.add("const", (), dtype, (number,))

    def call(self, op: str, *args: int, dtype: str | None = None) -> int:
        """An operation on body nodes; its dtype is that of the first argument unless given."""
        return self.body.add(op, args, dtype or self.body.nodes[args[0]].dtype)

    def cast(self, node: int, dtype: str) -> int:
        """`node` as `dtype`."""
        known = self.body.nodes[node]
        if known.dtype == dtype:
            return node
        if is_narrow(dtype) and known.op == "cast" and self.body.nodes[known.args[0]].dtype == dtype:
            return known.args[0]  # widened, and as it was again
        return self.call("cast", node, dtype=dtype)

    def rounded(self, node: int, dtype: str) -> int:
        """`node` as memory of `dtype` would hold it, in the dtype that bodies compute in."""
        return self.cast(self.cast(node, dtype), computed(dtype))

    def load(self, view: View, space: Space) -> int:
        """The view's element at the body's index, as bodies compute with it."""
        loaded = self.body.add("load", (), view.dtype, self.access(view, space))
        return self.cast(loaded, computed(view.dtype))

    def store(self, view: View, space: Space, node: int, dims: int | None = None) -> None:
        """Writes a body node to the view; with `dims`, along the body's first dims only."""
        slot, strides = self.access(view, space)
        self.body.store(slot, strides[:dims], self.cast(node, view.dtype))

    def scatter(self, view: View, space: Space, node: int, own: Mapping[int, Axis], places: Mapping[int, int]) -> None:
        """Writes a body node to the view: dim d at own[d], or at the index node places[d], if that is in range."""
        slot, strides = self.access(view, space, own)
        computed = tuple((place, view.strides[dim], view.shape[dim]) for dim, place in places.items())
        self.body.store(slot, strides, self.cast(node, view.dtype), computed)

    def read(self, node: Node, space: Space) -> int:
        """The body node for a graph node, in the dtype that bodies compute in."""
        if (node, space) not in self._done:
            self._done[node, space] = self._read(self, node, space)
        return self._done[node, space]

    def read_stored(self, node: Node, space: Space) -> int:
        """`read` of a node that is stored: all who read it see what memory holds."""
        self._done[node, space] = self.rounded(self.read(node, space), self.dtype_of(node))
        return self._done[node, space]

    def operand(self, argument: object, dtype: str, space: Space) -> int:
        """A graph node's or a Python number's value, as `dtype`."""
        if isinstance(argument, Node):
            return self.cast(self.read(argument, space), dtype)
        assert isinstance(argument, (int, float, bool))
        return self.const(dtype, argument)

    def dtype_of(self, node: Node) -> str:
        """The dtype of a graph node's tensor in memory."""
        tensor = node.meta["val"]
        assert isinstance(tensor, torch.Tensor)
        return DTYPE_NAMES[tensor.dtype]


Finish = Callable[[int, Space], None]
"""Takes the result of a group's anchor and its space, and adds the group's stores."""


def coalesced(
    body: Body, sizes: Sequence[Size], operands: Sequence[tuple[Size, ...]], barriers: Sequence[int]
) -> tuple[Body, tuple[Size, ...], list[tuple[Size, ...]]]:
    """The same work over fewer dims: neighbours merge where every access walks them as one.

    `operands` are strides (of leading dims; missing ones never merge) that the kernel itself uses. A dim in `barriers`
    is never merged into the one before it. Dims of size 1 go away, but one dim is left between barriers.
    """
    sizes = list(sizes)
    accesses: list[list[Size]] = [list(o) for o in operands]
    for node in body.nodes:
        if node.op in ("load", "gather"):
            accesses.append(list(node.strides))
    accesses += [list(store.strides) for store in body.stores]
    if any(node.op == "index" for node in body.nodes):
        return body, tuple(sizes), [tuple(o) for o in operands]
    marks = [i in barriers for i in range(len(sizes))]
    dim = 0
    while dim + 1 < len(sizes):
        merges = not marks[dim + 1] and all(_merges(access, dim, sizes) for access in accesses)
        if not merges:
            dim += 1
            continue
        drop = dim + 1 if sizes[dim + 1] == 1 else dim
        for access in accesses:
            if drop < len(access):
                del access[drop]
        merged = sizes[dim] * sizes[dim + 1]
        marks[dim + 1] = marks[dim]
        del sizes[dim], marks[dim]
        sizes[dim] = merged
    rest = iter(accesses)
    new_operands = [tuple(next(rest)) for _ in operands]
    nodes = []
    for node in body.nodes:
        if node.op in ("load", "gather"):
            attrs = (node.attrs[0], tuple(next(rest)), *node.attrs[2:])
            node = BodyNode(node.op, node.args, node.dtype, attrs)
        nodes.append(node)
    stores = tuple(replace(store, strides=tuple(next(rest))) for store in body.stores)
    return Body(tuple(nodes), stores), tuple(sizes), new_operands


def _merges(access: Sequence[Size], dim: int, sizes: Sequence[Size]) -> bool:
    if dim >= len(access):
        return True
    if sizes[dim] == 1 or (dim + 1 < len(access) and sizes[dim + 1] == 1):
        return True
    return dim + 1 < len(access) and access[dim] == access[dim + 1] * sizes[dim + 1]
