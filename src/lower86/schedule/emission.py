"""A kernel under construction: its slots, its params, and its body as an expression over graph nodes.

A body runs over some order of dims. A `Space` says where the dims of a tensor's shape are in that order, so that the
same node can be read in the full space of a row kernel (before a reduction) and in the kept one (after it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.fx import Node

from ..program.body import Attribute, Body, BodyBuilder, Store
from ..program.body import Node as BodyNode
from ..program.dtypes import DTYPES
from ..program.sizes import Size
from .plan import Plan
from .symbols import DTYPE_NAMES
from .views import View


@dataclass(frozen=True)
class Space:
    """Dim i of `shape` is dim `positions[i]` of a body of `rank` dims; None: always index 0."""

    shape: tuple[Size, ...]
    positions: tuple[int | None, ...]
    rank: int

    @staticmethod
    def of(shape: tuple[Size, ...]) -> Space:
        """The body's dims are those of `shape`."""
        return Space(shape, tuple(range(len(shape))), len(shape))


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
        self._done: dict[tuple[Node, Space], int] = {}

    def slot(self, value: int, offset: Size = 0) -> int:
        """The slot bound to `offset` bytes into `value`."""
        if (value, offset) not in self.slots:
            self.slots.append((value, offset))
        return self.slots.index((value, offset))

    def view_slot(self, view: View) -> int:
        """The slot bound to a view's first element."""
        return self.slot(view.value, view.offset * DTYPES[view.dtype].size)

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
        return node if self.body.nodes[node].dtype == dtype else self.call("cast", node, dtype=dtype)

    def strides(self, view: View, space: Space) -> tuple[Size, ...]:
        """A view's strides along the body's dims, broadcast to the space's shape."""
        strides: list[Size] = [0] * space.rank
        missing = len(space.shape) - len(view.shape)
        for i, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
            position = space.positions[missing + i]
            if size != 1 and position is not None:
                strides[position] = stride
        return tuple(strides)

    def load(self, view: View, space: Space) -> int:
        """The view's element at the body's index."""
        return self.body.add("load", (), view.dtype, (self.view_slot(view), self.strides(view, space)))

    def read(self, node: Node, space: Space) -> int:
        """The body node for a graph node."""
        if (node, space) not in self._done:
            self._done[node, space] = self._read(self, node, space)
        return self._done[node, space]

    def operand(self, argument: object, dtype: str, space: Space) -> int:
        """A graph node's or a Python number's value, as `dtype`."""
        if isinstance(argument, Node):
            return self.cast(self.read(argument, space), dtype)
        assert isinstance(argument, (int, float, bool))
        return self.const(dtype, argument)

    def dtype_of(self, node: Node) -> str:
        """The dtype of a graph node's tensor."""
        tensor = node.meta["val"]
        assert isinstance(tensor, torch.Tensor)
        return DTYPE_NAMES[tensor.dtype]


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
            accesses.append(list(node.attrs[1]))  # type: ignore[arg-type]
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
    stores = tuple(Store(store.slot, tuple(next(rest)), store.node) for store in body.stores)
    return Body(tuple(nodes), stores), tuple(sizes), new_operands


def _merges(access: Sequence[Size], dim: int, sizes: Sequence[Size]) -> bool:
    if dim >= len(access):
        return True
    if sizes[dim] == 1 or (dim + 1 < len(access) and sizes[dim + 1] == 1):
        return True
    return dim + 1 < len(access) and access[dim] == access[dim + 1] * sizes[dim + 1]
