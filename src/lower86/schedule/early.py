"""Indices that are known before state is written: what they follow from is in no kernel that waits for the writing.

    %new = index_copy(%cache, 0, %p, %x)
    %sum = sum(%new, 0)                          late: it follows from what is written
    %i   = add(%token, 1)                        early: an index follows from it, and it is not late
    %g   = gather(%bias, 0, %i)                  neither: it may share a kernel with the sum, but not with %i
    %y   = add(%sum, %g)                         late

So a call can check %i before it writes the first row, though %g is read after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch.fx import Node

from ..graph.arguments import shape_of
from ..graph.state import writes
from ..program.sizes import Size
from .gathers import GATHERS, indexed_dims
from .rearranged import REARRANGED
from .symbols import to_sizes
from .updates import UPDATES


class Early:
    """Which nodes of a graph are early, and which are late."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self._late: set[Node] = set()
        self._early: set[Node] = set()
        updates = _updates_of_state(graph)
        if not updates:
            return
        for node in graph.nodes:
            if node in updates or any(source in self._late for source in node.all_input_nodes):
                self._late.add(node)
        self._early = {index for node in graph.nodes for index in indices_read(node).values()} - self._late
        for node in reversed(graph.nodes):
            if node in self._early:
                self._early.update(node.all_input_nodes)

    def allows(self, first: Iterable[Node], second: Iterable[Node]) -> bool:
        """Whether one kernel may compute all these."""
        nodes = [*first, *second]
        return self._early.isdisjoint(nodes) or self._late.isdisjoint(nodes)


def indices_read(node: Node) -> Mapping[int, Node]:
    """The operands that a kernel would find out of range, by the dim that they are for."""
    if node.op != "call_function":
        return {}
    if node.target in UPDATES and UPDATES[node.target].when.holds(node):
        return UPDATES[node.target].indices(node)
    gathers = node.target in GATHERS and node.target not in REARRANGED
    return indexed_dims(node) if gathers and GATHERS[node.target].when.holds(node) else {}


def bounds_of(node: Node) -> list[tuple[Node, Size, bool]]:
    """For each index that the node reads: which, what it is below, and whether negative ones count from the end."""
    table = node.args[0]
    assert isinstance(table, Node)
    wraps = UPDATES[node.target].wraps if node.target in UPDATES else node.target is torch.ops.aten.index.Tensor
    shape = to_sizes(shape_of(table))
    return [(index, shape[dim], wraps) for dim, index in indices_read(node).items()]


def _updates_of_state(graph: torch.fx.Graph) -> set[Node]:
    """The updates that may be made where the state lies."""
    found: set[Node] = set()
    for _, value in writes(graph):
        while value.target in UPDATES and isinstance(value.args[0], Node):
            found.add(value)
            value = value.args[0]
    return found
