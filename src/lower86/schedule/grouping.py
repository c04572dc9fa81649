"""Which nodes become one kernel.

An anchor (a contraction, a row operation, an attention) starts a group; pointwise nodes of its result's shape join it
as its epilogue, along whatever edges lead there, and a row operation takes in the pointwise nodes that feed it alone. A
node joins only if no other input of it waits for the group. Movement belongs to no group: it is how results are read.
A dequantize belongs to its reader, whatever computes its integers: so those are what memory holds, a quarter the bytes.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from ..graph.qparams import is_whole_dequantize
from ..graph.state import is_write
from ..program.sizes import Size
from .cells import is_native_recurrence
from .gathers import tables_of
from .joins import is_native_join
from .pointwise import pointwise_of
from .rows import is_native_row
from .symbols import to_sizes
from .templates import is_native_anchor
from .views import MOVEMENT

_COSTLY = ("exp", "erf", "tanh", "sigmoid", "silu", "gelu", "log", "expm1", "log1p")


@dataclass
class Group:
    """Nodes computed by one kernel, in graph order. `anchor` is None for plain pointwise and for foreign nodes."""

    number: int
    kind: str
    anchor: Node | None
    nodes: list[Node]
    shape: tuple[Size, ...] | None
    needs: set[int] = field(default_factory=set)


def kind_of(node: Node) -> str:
    """What a node is to the scheduler: movement, pointwise, rows, anchor, join, recurrence, foreign, or leaf."""
    if node.op != "call_function":
        return "leaf"
    value = node.meta.get("val")
    if isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return "leaf"  # arithmetic on sizes: whoever uses it has its value
    if is_write(node):
        return "leaf"  # what comes of it, is decided when all else is computed
    if node.target is operator.getitem or (node.target in MOVEMENT and isinstance(value, torch.Tensor)):
        return "movement"
    if pointwise_of(node) is not None:
        return "pointwise"
    if is_native_row(node):
        return "rows"
    if is_native_anchor(node):
        return "anchor"
    if is_native_join(node):
        return "join"
    if is_native_recurrence(node):
        return "recurrence"
    return "foreign"


def _is_computed_by_its_reader(node: Node) -> bool:
    """Whether the node is a dequantize whose one reader is an elementwise operator, or a row operation over it."""
    if not is_whole_dequantize(node) or len(node.users) != 1:
        return False
    (reader,) = node.users
    kind = kind_of(reader)
    return (kind == "pointwise" and node not in tables_of(reader)) or (kind == "rows" and reader.args[0] is node)


def origin(node: Node) -> Node:
    """The node whose result a chain of movement reads."""
    while node.op == "call_function" and (node.target in MOVEMENT or node.target is operator.getitem):
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return node


class Grouping:
    """The groups of a graph, each after all that it needs."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self.groups: dict[int, Group] = {}
        self.of: dict[Node, int] = {}
        self._deferred: set[Node] = set()
        for node in graph.nodes:
            kind = kind_of(node)
            if _is_computed_by_its_reader(node):
                self._deferred.add(node)
            elif kind == "pointwise":
                if not self._join(node):
                    self._start(node, kind, None)
            elif kind == "rows":
                self._start_rows(node)
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
        floats = {self.of[n] for n in node.all_input_nodes if n in self.of and n not in tables_of(node)}
        integers = {self.of[n] for n in self._inputs(node) if n in self.of and n not in tables_of(node)} - floats
        # What is read as integers may as well come from memory; a float is better taken where it is computed.
        for number in [*sorted(floats, reverse=True), *sorted(integers, reverse=True)]:
            group = self.groups[number]
            if group.shape != shape:
                continue
            inside = set(group.nodes)
            read_whole = [n for n in self._inputs(node) if n not in inside and origin(n) in inside]
            read_whole += [n for n in tables_of(node) if origin(n) in inside]
            others = self._needs(node) - {number}
            if read_whole or any(self.reaches(other, number) for other in others):
                continue
            added = self._with_dequantizes(node)
            group.nodes += added
            group.needs |= others
            self.of.update(dict.fromkeys(added, number))
            return True
        return False

    def _start_rows(self, node: Node) -> None:
        group = self._start(node, "rows", node)
        source = node.args[0]
        if not isinstance(source, Node) or source not in self.of or source in self._deferred:
            return
        feeding = self.groups[self.of[source]]
        if feeding.kind != "pointwise" or feeding.shape != to_sizes(source.meta["val"].shape):
            return
        inside = {*feeding.nodes, node}
        only_feeds = all(user in inside for n in feeding.nodes for user in n.users)
        reads_only_source = all(n is source or origin(n) not in inside for n in node.all_input_nodes)
        if only_feeds and reads_only_source and not any(_is_costly(n) for n in feeding.nodes):
            group.nodes[:0] = feeding.nodes
            group.needs = (group.needs | feeding.needs) - {feeding.number}
            for n in feeding.nodes:
                self.of[n] = group.number
            del self.groups[feeding.number]

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


def _is_costly(node: Node) -> bool:
    """Whether computing the node again in every pass over a row would cost more than writing it down."""
    name = str(node.target._schema.name).removeprefix("aten::")  # type: ignore[union-attr]
    return name in _COSTLY
