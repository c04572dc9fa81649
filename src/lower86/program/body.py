"""What a kernel computes at one point of its index space: a list of scalar operations and the stores at its end.

A body is in single-assignment form: each node names earlier nodes by position, so it has no cycles by construction and
a value that is used twice stands once. The same body is emitted on scalars and on vectors; kernels decide which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from . import sizes
from .sizes import Size

Attribute = int | float | bool | str | tuple[Any, ...] | sizes.SizeExpr


@dataclass(frozen=True)
class Node:
    """One scalar operation.

    `op` is a name of `codegen.operations.OPERATIONS` over `args`, or one of the leaves:

    - `load (slot, strides)`: the element of buffer `slot` at Σ index·stride (strides in elements, one a dim);
    - `gather (slot, strides, ((stride, bound), …), wraps)`: as load, plus Σ arg·stride; an arg outside [0, bound) is an
      error; if `wraps`, one in [-bound, 0) counts from the end;
    - `checked (bound, wraps)`: the i64 index that a gather would make of its arg, or the gather's error;
    - `index (dim)`: the i64 index of a dim; `extent (size)`: a size as an i64; `const (value)`; `param (position)`: a
      number given a step;
    - `value (number)`: what the kernel itself has computed: an accumulator, a reduction's result.
    """

    op: str
    args: tuple[int, ...]
    dtype: str
    attrs: tuple[Attribute, ...] = ()

    @property
    def number(self) -> int:
        """The first attribute of a load or gather (the slot), an index, a param or a value."""
        (number, *_) = self.attrs
        assert isinstance(number, int)
        return number

    @property
    def strides(self) -> tuple[Size, ...]:
        """Of a load or gather."""
        strides = self.attrs[1]
        assert isinstance(strides, tuple)
        return strides

    @property
    def size(self) -> Size:
        """Of an extent."""
        (size,) = self.attrs
        assert isinstance(size, (int, sizes.SizeExpr))
        return size

    @property
    def constant(self) -> float | bool:
        """Of a const."""
        (constant,) = self.attrs
        assert isinstance(constant, (bool, int, float))
        return constant


Place = tuple[int, Size, Size]
"""A node that is an index, its stride, and the bound below which it is."""


@dataclass(frozen=True)
class Store:
    """Writes `node` to buffer `slot` at Σ index·stride, plus Σ node·stride over `places`: (node, stride, bound) each.

    Nothing is written where one of their nodes, i64, is outside [0, bound). Only `Pointwise` kernels have any.
    """

    slot: int
    strides: tuple[Size, ...]
    node: int
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Body:
    """Nodes in order, and what is stored."""

    nodes: tuple[Node, ...] = ()
    stores: tuple[Store, ...] = ()


def without_unused(body: Body) -> Body:
    """The body without nodes that no store needs, under new numbers."""
    needed: set[int] = set()
    waiting = [i for store in body.stores for i in (store.node, *(place[0] for place in store.places))]
    while waiting:
        position = waiting.pop()
        if position not in needed:
            needed.add(position)
            waiting += body.nodes[position].args
    number = {old: new for new, old in enumerate(sorted(needed))}
    nodes = [replace(body.nodes[old], args=tuple(number[arg] for arg in body.nodes[old].args)) for old in number]
    stores = [
        replace(store, node=number[store.node], places=tuple((number[i], by, bound) for i, by, bound in store.places))
        for store in body.stores
    ]
    return Body(tuple(nodes), tuple(stores))


class BodyBuilder:
    """Builds a body; equal nodes are one node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.stores: list[Store] = []
        self._known: dict[str, int] = {}

    def add(self, op: str, args: tuple[int, ...], dtype: str, attrs: tuple[Attribute, ...] = ()) -> int:
        """The position of the node, new or known."""
        node = Node(op, args, dtype, attrs)
        key = repr(node)  # not the node itself: 0.0 and -0.0 are equal, but not the same constant
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def store(self, slot: int, strides: tuple[Size, ...], node: int, places: tuple[Place, ...] = ()) -> None:
        """Adds a store of `node`."""
        self.stores.append(Store(slot, strides, node, places))

    def build(self) -> Body:
        """The finished body."""
        return Body(tuple(self.nodes), tuple(self.stores))
