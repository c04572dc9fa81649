"""What a graph that still writes in place may be read for: which values are constant, which do not change later.

A quantize node stands right behind the value it reads. Where that value, or memory it is a view of, is written after
that, quantizing it there would read what the reader does not.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

_A = torch.ops.aten
_ALSO_POINTWISE = ("hardswish", "dropout")
"""In-place operators to rewrite that PyTorch does not tag as pointwise."""


def replace_in_place(module: GraphModule) -> None:
    """Rewrites in-place pointwise operators whose effect nobody else can see.

    relu_(x), then x   ->   y = relu(x), then y

    That is, where x is a value of its own, computed in the graph, and no view of it was taken before.
    """
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        functional = _functional(node)
        if functional is None:
            continue
        target = node.args[0]
        earlier = [user for user in target.users if order[user] < order[node]]
        if not _is_fresh(target) or any(_gives_alias(user) for user in earlier):
            continue
        node.target = functional
        for user in list(target.users):
            if order[user] > order[node]:
                user.replace_input_with(target, node)


def _functional(node: Node) -> Any:
    """The operator without the effect, or None."""
    if not _writes(node) or not isinstance(node.args[0], Node):
        return None
    assert isinstance(node.target, torch._ops.OpOverload)
    namespace, name = node.target._schema.name.split("::")
    packet = getattr(_A, name.removesuffix("_"), None)
    if namespace != "aten" or packet is None or node.target._overloadname not in packet.overloads():
        return None
    functional = getattr(packet, node.target._overloadname)
    if torch.Tag.pointwise not in functional.tags and name.removesuffix("_") not in _ALSO_POINTWISE:
        return None
    mine, its = ([a.name for a in one._schema.arguments] for one in (node.target, functional))
    return functional if mine == its else None


def _is_fresh(node: Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) and not _gives_alias(node)


def _gives_alias(node: Node) -> bool:
    """Whether the result may be memory of the first operand; what is unknown may."""
    if node.op != "call_function" or node.target is operator.getitem:
        return node.op not in ("output", "placeholder", "get_attr")
    if not isinstance(node.target, torch._ops.OpOverload):
        return not _is_scalar(node)
    return any(result.alias_info is not None for result in node.target._schema.returns)


def _is_scalar(node: Node) -> bool:
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _writes(node: Node) -> bool:
    """Whether the node writes to one of its operands."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    return any(a.alias_info is not None and a.alias_info.is_write for a in node.target._schema.arguments)


class Memory:
    """Which nodes of a graph are constant, and which values are never written again."""

    def __init__(self, graph: Graph) -> None:
        self._written = {_base(operand) for node in graph.nodes if _writes(node) for operand in _written_operands(node)}
        self._constant: dict[Node, bool] = {}
        for node in graph.nodes:  # in the order of computation: no recursion
            self._constant[node] = self._find_constant(node)

    def is_stable(self, node: Node) -> bool:
        """Whether the value stays as it is computed."""
        return _base(node) not in self._written

    def is_constant(self, node: Node) -> bool:
        """Whether the value is the same in every call: a parameter, a buffer that nobody writes, or made of such."""
        return self._constant[node]

    def _find_constant(self, node: Node) -> bool:
        if node.op == "get_attr":
            return isinstance(node.meta.get("val"), torch.Tensor) and self.is_stable(node)
        if node.target is operator.getitem:
            return self._constant[node.all_input_nodes[0]]
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload) or _writes(node):
            return False
        random = torch.Tag.nondeterministic_seeded in node.target.tags
        return not random and all(self._constant[operand] for operand in node.all_input_nodes)


def _written_operands(node: Node) -> list[Node]:
    assert isinstance(node.target, torch._ops.OpOverload)
    found: list[Node] = []
    for i, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
            found += [operand for operand in _flat(given) if isinstance(operand, Node)]
    return found


def _flat(argument: Any) -> list[Any]:
    return list(argument) if isinstance(argument, (list, tuple)) else [argument]


def _base(node: Node) -> Node:
    """The value whose memory `node` shares, following first operands."""
    while node.op == "call_function" and _gives_alias(node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes that the results or the memory written by the graph depend on."""
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or _writes(node) or any(user in found for user in node.users):
            found.add(node)
    return found
