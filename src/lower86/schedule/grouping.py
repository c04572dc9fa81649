"""Which nodes become one kernel.

An anchor (a contraction, a row operation, an attention) starts a group; pointwise nodes of its result's shape join it
as its epilogue, along whatever edges lead there. A node joins only if no other input of it waits for the group.
Movement belongs to no group: it is how results are read. A dequantize belongs to its reader, whatever computes its
integers: so those are what memory holds, a quarter the bytes.

Row operations over the same dims of the same rows are one group, if one uses the other's result, or both read one
value, or are read by one pointwise node:

    layer_norm(x), amin and amax of that, a scale a row, quantize

with all pointwise nodes between and after them, of the rows' shape or of one number a row, and with those that feed the
first one. What `row_costs` says decides where that would cost more than it saves.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from ..program.sizes import Size
from .early import Early
from .gathers import GATHERS, tables_of
from .kinds import is_computed_by_its_reader, kind_of, origin
from .layout import Layouts, have_same_shape
from .row_costs import can_share, can_write_down, is_costly
from .row_shapes import Dims, RowShapes, row_shapes
from .symbols import to_sizes


@dataclass
class Group:
    """Nodes computed by one kernel, in graph order. `anchor` is None for plain pointwise and for foreign nodes.

    `rows`: the shapes of a group of row operations, which other groups and those of a cumulative sum do not have.
    """

    number: int
    kind: str
    anchor: Node | None
    nodes: list[Node]
    shape: tuple[Size, ...] | None
    needs: set[int] = field(default_factory=set)
    rows: RowShapes | None = None


class Grouping:
    """The groups of a graph, each after all that it needs."""

    def __init__(self, graph: torch.fx.Graph, layouts: Layouts | None = None) -> None:
        self.groups: dict[int, Group] = {}
        self.of: dict[Node, int] = {}
        self._layouts = layouts or Layouts(graph)
        self._early = Early(graph)
        self._over: dict[tuple[Node, RowShapes], int] = {}
        """The group that has row operations over a node that it does not compute itself."""
        self._deferred: set[Node] = set()
        for node in graph.nodes:
            kind = kind_of(node)
            if is_computed_by_its_reader(node):
                self._deferred.add(node)
            elif kind == "pointwise":
                if not self._join(node):
                    self._start(node, kind, None)
            elif kind == "rows":
                self._add_rows(node)
            elif kind in ("anchor", "join", "recurrence", "foreign"):
                self._start(node, kind, node if kind == "anchor" else None)

    def in_order(self) -> list[Group]:
        """The groups, those needed first."""
        done: dict[int, Group] = {}

        def visit(number: int) -> None:
            stack = [(number, iter(sorted(self.groups[number].needs)))]
            while stack:
                current, waiting = stack[-1]
                following = next((n for n in waiting if n not in done), None)
                if following is None:
                    done[current] = self.groups[current]
                    stack.pop()
                else:
                    stack.append((following, iter(sorted(self.groups[following].needs))))

        for number in sorted(self.groups):
            if number not in done:
                visit(number)
        return list(done.values())

    def _needs(self, node: Node) -> set[int]:
        return {self.of[origin(n)] for n in self._inputs(node) if origin(n) in self.of}

    def _inputs(self, node: Node) -> list[Node]:
        """What the node reads, in place of a dequantize of its own what that reads."""
        return [source for n in node.all_input_nodes for source in (n.all_input_nodes if n in self._deferred else [n])]

    def _with_dequantizes(self, node: Node) -> list[Node]:
        return [*(n for n in node.all_input_nodes if n in self._deferred), node]

    def _start(self, node: Node, kind: str, anchor: Node | None) -> Group:
        value = node.meta.get("val")
        alone = kind in ("foreign", "join", "recurrence")
        shape = to_sizes(value.shape) if isinstance(value, torch.Tensor) and not alone else None
        number = len(self.of) and max(self.groups) + 1
        group = Group(number, kind, anchor, self._with_dequantizes(node), shape, self._needs(node))
        self.groups[number] = group
        self.of.update(dict.fromkeys(group.nodes, number))
        return group

    def _join(self, node: Node) -> bool:
        shape = to_sizes(node.meta["val"].shape)
        self._unite_rows(node, shape)
        self._unite_lookups(node, shape)
        inputs = [n for n in self._inputs(node) if n not in tables_of(node)]
        floats = {self.of[n] for n in node.all_input_nodes if n in self.of and n not in tables_of(node)}
        integers = {self.of[n] for n in inputs if n in self.of} - floats
        moved = {self.of[origin(n)] for n in inputs if origin(n) in self.of} - floats - integers
        # What is read as integers may as well come from memory; a float is better taken where it is computed.
        for number in (n for numbers in (floats, moved, integers) for n in sorted(numbers, reverse=True)):
            group = self.groups[number]
            if self._belongs(node, group, shape) and self._add(node, group):
                return True
        return False

    def _belongs(self, node: Node, group: Group, shape: tuple[Size, ...]) -> bool:
        """Whether the group's kernel can compute a pointwise node of this shape, by what it reads of the group."""
        inside = set(group.nodes)
        if any(origin(n) in inside for n in tables_of(node)):
            return False
        if group.rows is None:
            return group.shape == shape and all(n in inside or origin(n) not in inside for n in self._inputs(node))
        if shape == group.rows.full and group.shape != shape and not can_share(group.rows, self._order(group)):
            return False
        dims = group.rows.dims(shape)
        return dims is not None and self._reads_rows(node, group, dims)

    def _reads_rows(self, node: Node, group: Group, dims: Dims) -> bool:
        """Whether all that the node, with these dims, reads of a group of rows is what belongs to its own element."""
        assert group.rows is not None
        inside = set(group.nodes)
        read = [n for n in self._inputs(node) if origin(n) in inside]
        if node.target in GATHERS and not all(have_same_shape(n, node) for n in read):
            return False  # indices of some dims: they do not broadcast
        return all(group.rows.source(n, inside) is not None and group.rows.fits(n, dims) for n in read)

    def _add(self, node: Node, group: Group) -> bool:
        """Has the group compute the node, too, unless another input of the node waits for the group."""
        others = self._needs(node) - {group.number}
        if any(self.reaches(other, group.number) for other in others) or not self._early.allows([node], group.nodes):
            return False
        added = self._with_dequantizes(node)
        group.nodes += added
        group.needs |= others
        self.of.update(dict.fromkeys(added, group.number))
        return True

    def _add_rows(self, node: Node) -> None:
        """Adds a row operation to a group that has the same rows, or starts one."""
        shapes, source = row_shapes(node), node.args[0]
        assert isinstance(source, Node)
        if shapes is not None:
            known = (self.of.get(origin(source)), self._over.get((source, shapes)))
            for number in dict.fromkeys(n for n in known if n is not None):
                if self._belongs_to_rows(node, self.groups[number], shapes) and self._add(node, self.groups[number]):
                    return
        group = self._start(node, "rows", node)
        group.rows = shapes
        if shapes is not None and source not in self._deferred:
            self._over[source, shapes] = group.number
        self._take_in_what_feeds(group, node, source)

    def _belongs_to_rows(self, node: Node, group: Group, shapes: RowShapes) -> bool:
        if group.rows != shapes or not self._reads_rows(node, group, tuple(range(len(shapes.full)))):
            return False
        return can_write_down(shapes, self._order(group), group.nodes)

    def _order(self, group: Group) -> tuple[int, ...]:
        """The order of the rows' dims in memory, as far as it is known."""
        assert group.anchor is not None
        source = group.anchor.args[0]
        assert isinstance(source, Node)
        return self._layouts.order(source) or tuple(range(source.meta["val"].dim()))

    def _take_in_what_feeds(self, group: Group, node: Node, source: Node) -> None:
        """Makes the pointwise group that computes `source` part of the row operation's own, if that pays."""
        if source not in self.of or source in self._deferred:
            return
        feeding = self.groups[self.of[source]]
        if feeding.kind != "pointwise" or feeding.shape != to_sizes(source.meta["val"].shape):
            return
        inside = {*feeding.nodes, node}
        if not (self._only_feeds(feeding, node) and not any(is_costly(n) for n in feeding.nodes)):
            if group.rows is None or not can_share(group.rows, self._order(group)):
                return
            if not can_write_down(group.rows, self._order(group), feeding.nodes):
                return
        others = group.needs - {feeding.number}
        reads_only_source = all(n is source or origin(n) not in inside for n in self._inputs(node))
        if not reads_only_source or any(self.reaches(other, feeding.number) for other in others):
            return
        if not self._early.allows(feeding.nodes, group.nodes):
            return
        self._unite(feeding, group)

    def _unite_rows(self, node: Node, shape: tuple[Size, ...]) -> None:
        """Makes one group of those of the same rows that a pointwise node reads: it can be part of all of them."""
        numbers = sorted(self._needs(node))
        groups = [group for group in map(self.groups.__getitem__, numbers) if group.rows is not None]
        groups = [group for group in groups if self._belongs(node, group, shape)]
        for first, second in itertools.pairwise(groups):
            if self._can_unite(first, second):
                self._unite(first, second)

    def _unite_lookups(self, node: Node, shape: tuple[Size, ...]) -> None:
        """Makes one group of the pointwise ones that a node reads, where one looks something up for it alone."""
        groups = [self.groups[number] for number in sorted(self._needs(node))]
        groups = [group for group in groups if group.kind == "pointwise" and self._belongs(node, group, shape)]
        for first, second in itertools.pairwise(groups):
            looked_up = [group for group in (first, second) if any(n.target in GATHERS for n in group.nodes)]
            if any(self._only_feeds(group, node) for group in looked_up) and self._may_be_one(first, second):
                self._unite(first, second)

    def _only_feeds(self, group: Group, node: Node) -> bool:
        inside = {*group.nodes, node}
        return all(user in inside for n in group.nodes for user in n.users)

    def _can_unite(self, first: Group, second: Group) -> bool:
        rows, order = first.rows, self._order(first)
        if rows is None or rows != second.rows or order != self._order(second):
            return False
        return self._may_be_one(first, second) and can_write_down(rows, order, [*first.nodes, *second.nodes])

    def _may_be_one(self, first: Group, second: Group) -> bool:
        """Whether neither waits for the other, nor the indices of one for state that the other's nodes follow from."""
        if self.reaches(first.number, second.number) or self.reaches(second.number, first.number):
            return False
        return self._early.allows(first.nodes, second.nodes)

    def _unite(self, first: Group, second: Group) -> None:
        """Makes the first group's nodes those of the second, too."""
        second.nodes[:0] = first.nodes
        second.needs = (second.needs | first.needs) - {first.number, second.number}
        self.of.update(dict.fromkeys(first.nodes, second.number))
        del self.groups[first.number]
        self._over = {over: second.number if n == first.number else n for over, n in self._over.items()}
        for other in self.groups.values():
            if first.number in other.needs:
                other.needs = (other.needs - {first.number}) | {second.number}

    def reaches(self, start: int, goal: int) -> bool:
        """Whether group `start` needs group `goal`, however indirectly."""
        seen, stack = set(), [start]
        while stack:
            number = stack.pop()
            if number == goal:
                return True
            if number not in seen:
                seen.add(number)
                stack += self.groups[number].needs
        return False
