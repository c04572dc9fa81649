"""The shapes of values that belong to the same rows: that of the rows themselves, and those of one number a row.

    x[4, 32, 384] reduced over its last dim:    [4, 32, 384] is full;    [4, 32], [4, 32, 1], [4, 1, 32] are numbers

A row kernel computes all of these, point by point: an element of one and an element of another belong to each other if
they agree in the dims that both have. Movement between these shapes is nothing at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch.fx import Node

from ..program.sizes import Size
from .rows import ROWS, reduced_dims
from .symbols import to_sizes

_RESHAPE, _EXPAND = torch.ops.aten.reshape.default, torch.ops.aten.expand.default

Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class RowShapes:
    """An input's shape, and those of its dims that row operations run over."""

    full: tuple[Size, ...]
    reduced: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The dims of the input that tell rows apart."""
        return tuple(d for d in range(len(self.full)) if d not in self.reduced)

    @property
    def _is_long(self) -> bool:
        """Whether a row may have more than one element."""
        return any(self.full[d] != 1 for d in self.reduced)

    def dims(self, shape: tuple[Size, ...]) -> Dims | None:
        """For each dim of `shape` the input's dim that it is, None if of size 1; None for no shape of these rows."""
        if shape == self.full:
            return tuple(range(len(shape)))
        rest = [d for d in self.kept if self.full[d] != 1]
        if tuple(size for size in shape if size != 1) != tuple(self.full[d] for d in rest):
            return None
        return tuple(None if size == 1 else rest.pop(0) for size in shape)

    def fits(self, node: Node, reader: Dims) -> bool:
        """Whether a reader of these dims that meets the node by broadcasting meets what belongs to its own element."""
        dims = self.dims(to_sizes(node.meta["val"].shape))
        if dims is None or len(dims) > len(reader):
            return False
        return all(d is None or d == other for d, other in zip(reversed(dims), reversed(reader), strict=False))

    def source(self, node: Node, nodes: Collection[Node]) -> Node | None:
        """Which of `nodes` the node is, be it by movement that leaves every element in its row; None if none."""
        while node not in nodes:
            if node.op != "call_function" or node.target not in (_RESHAPE, _EXPAND):
                return None
            before, after = node.args[0], self.dims(to_sizes(node.meta["val"].shape))
            assert isinstance(before, Node)
            shape = to_sizes(before.meta["val"].shape)
            if after is None or self.dims(shape) is None:
                return None
            if node.target is _EXPAND and not self.fits(before, after):
                return None
            if node.target is _RESHAPE and self._is_long and self.full in (shape, to_sizes(node.meta["val"].shape)):
                return None
            node = before
        return node


def row_shapes(node: Node) -> RowShapes | None:
    """The shapes that go with a row operation; None for one that keeps the dim it runs over."""
    if ROWS[node.target].keeps_reduced:
        return None
    source = node.args[0]
    assert isinstance(source, Node)
    return RowShapes(to_sizes(source.meta["val"].shape), reduced_dims(node))
