"""The values of a quantized graph that a comparison has a row for: what is computed, and what is made integers."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .observed import written_to

_MOVES = (
    "view", "reshape", "permute", "transpose", "t", "expand", "slice", "select", "unsqueeze", "squeeze", "flatten",
    "unflatten", "contiguous", "clone", "detach", "alias", "split", "chunk", "unbind", "split_with_sizes", "dropout",
    "_unsafe_view", "expand_as", "view_as", "movedim", "narrow", "mT", "numpy_T", "to", "_to_copy", "lift_fresh_copy",
    "copy_", "copy", "detach_", "dropout_", "feature_dropout", "getitem",
)  # fmt: skip
"""Operators of which no row tells anything: they compute nothing."""
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")


@dataclass(frozen=True)
class Place:
    """A value of the quantized graph: what `source` gives; with `quantize` that in integers, as its readers see it.

    `moves` are the operators up to `source` that only say where elements are, as it is itself, the first one first.
    """

    source: Node
    quantize: Node | None = None
    dequantizes: tuple[Node, ...] = ()
    moves: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """The name of the node that gives it."""
        return (self.quantize or self.source).name


def places_of(module: GraphModule) -> list[Place]:
    """Every value of a quantized graph that something computes, in order: floats that are read, and integers."""
    varying, found = set[Node](), list[Place]()
    shared = written_to(module.graph)
    for node in module.graph.nodes:
        if node.op == "placeholder" or node in shared or any(n in varying for n in node.all_input_nodes):
            varying.add(node)
        if node not in varying or node.op not in ("placeholder", "call_function") or _is_spelling(node):
            continue
        quantizes: dict[str, list[Node]] = {}
        for user in node.users:
            if is_quantize(user) and user.args[0] is node:
                quantizes.setdefault(f"{user.target} {user.args[1:]} {user.kwargs}", []).append(user)
        known = {user for users in quantizes.values() for user in users}
        if node.op != "placeholder" and not is_move(node) and any(not _only_measures(u, known) for u in node.users):
            found.append(Place(node))
        for first, *others in quantizes.values():
            readers = [user for one in (first, *others) for user in one.users if is_dequantize(user)]
            if readers:
                found.append(Place(node, first, tuple(readers), _moves_to(node)))
    return found


def _moves_to(node: Node) -> tuple[Node, ...]:
    moves: list[Node] = []
    while node.op == "call_function" and is_move(node):
        moves.insert(0, node)
        node = node.all_input_nodes[0]
    return tuple(moves)


def reshapes_of(node: Node) -> list[Node]:
    """The node's readers, and theirs, that give its elements another shape and no other order."""
    direct = [user for user in node.users if name_of(user) in _RESHAPES]
    return [one for user in direct for one in (user, *reshapes_of(user))]


def _is_spelling(node: Node) -> bool:
    return _namespace(node) in ("quantized_decomposed", "torchao") or (
        node.target is operator.getitem and _is_spelling(node.all_input_nodes[0])
    )


def _only_measures(user: Node, known: set[Node]) -> bool:
    """Whether a reader quantizes, or looks for the parameters that something is quantized with."""
    return user in known or "choose_qparams" in str(user.target)


def _schema(node: Node) -> Any:
    """The schema of the operator that a node calls, None of other calls; torchao's quantizers name no overload."""
    target = node.target
    if isinstance(target, torch._ops.OpOverloadPacket):
        only: Any = target.default
        return only._schema
    return target._schema if isinstance(target, torch._ops.OpOverload) else None


def _namespace(node: Node) -> str:
    schema = _schema(node)
    return str(schema.name).partition("::")[0] if schema is not None else ""


def name_of(node: Node) -> str:
    """The operator's short name."""
    schema = _schema(node)
    if schema is not None:
        return str(schema.name).rpartition("::")[2]
    return "input" if node.op == "placeholder" else str(getattr(node.target, "__name__", node.target))


def bounds_of(quantize: Node, dtype: torch.dtype) -> tuple[int, int]:
    """The least and the largest integer that a quantize gives."""
    names = [parameter.name for parameter in _schema(quantize).arguments]
    given = {**dict(zip(names, quantize.args, strict=False)), **quantize.kwargs}
    low, high, limits = given.get("quant_min"), given.get("quant_max"), torch.iinfo(dtype)
    return low if isinstance(low, int) else limits.min, high if isinstance(high, int) else limits.max


def is_move(node: Node) -> bool:
    """Whether the node only says where elements are."""
    return name_of(node) in _MOVES and not (node.target is operator.getitem and not is_move(node.all_input_nodes[0]))


def is_quantize(node: Node) -> bool:
    """Whether the node makes integers of floats, in any set of operators."""
    return (_is_spelling(node) or _namespace(node) == "lower86") and name_of(node).startswith("quantize")


def is_dequantize(node: Node) -> bool:
    """Whether the node makes floats of integers, in either set of operators."""
    return _is_spelling(node) and name_of(node).startswith("dequantize")
