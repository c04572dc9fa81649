"""From a group of nodes to a kernel and its step, by what anchors the group."""

from __future__ import annotations

import torch
from torch.fx import Node

from ..graph.source import describe
from ..ops.attention import int8_attention
from .attention import emit_attention
from .contractions import emit_product
from .convolutions import convolution_kernels
from .emission import Emission, Space
from .geometry import is_native_convolution
from .grouping import Group
from .memory import Memory, add_pointwise
from .pointwise import pointwise_of
from .row_kernels import emit_rows
from .symbols import to_sizes

_A = torch.ops.aten


def emit_group(memory: Memory, group: Group) -> None:
    """Adds the group's step to the plan."""
    label = " + ".join(node.name for node in group.nodes)
    if group.anchor is None:
        assert group.shape is not None
        e = _emission(memory, group, {})
        order = memory.walk_order(group.nodes)
        _store_results(memory, e, group, Space.of(group.shape, order))
        add_pointwise(e, tuple(group.shape[d] for d in order), label)
    elif group.kind == "rows":
        emit_rows(memory, group, label)
    elif is_native_convolution(group.anchor):
        _emit_convolution(memory, group, group.anchor, label)
    else:
        _emit_anchor(memory, group, group.anchor, label)


def _emission(memory: Memory, group: Group, known: dict[Node, int]) -> Emission:
    """An emission that computes the group's nodes, has the anchor's result from `known`, and loads all else."""
    inside = set(group.nodes)

    def read(e: Emission, node: Node, space: Space) -> int:
        if node in known:
            return known[node]
        if node in inside:
            emit = pointwise_of(node)
            assert emit is not None, describe(node)
            return emit(e, node, space)
        return e.load(memory.view(node), space)

    return Emission(memory.plan, read, memory.view)


def _store_results(memory: Memory, e: Emission, group: Group, space: Space) -> None:
    """Stores every node that somebody outside the group reads."""
    inside = set(group.nodes)
    for node in group.nodes:
        if all(user in inside for user in node.users) and node not in memory.outputs:
            e.read(node, space)
            continue
        result = e.read_stored(node, space)
        dtype = e.dtype_of(node)
        view = memory.store_of(node, dtype, to_sizes(node.meta["val"].shape))
        e.store(view, space, result)


def _emit_anchor(memory: Memory, group: Group, node: Node, label: str) -> None:
    known: dict[Node, int] = {}
    e = _emission(memory, group, known)

    def finish(result: int, space: Space) -> None:
        known[node] = result
        _store_results(memory, e, group, space)

    attention = node.target in (_A.scaled_dot_product_attention.default, int8_attention)
    kernel = (emit_attention if attention else emit_product)(e, node, memory, finish)
    memory.plan.step(kernel, e.slots, e.params, label)


def _emit_convolution(memory: Memory, group: Group, node: Node, label: str) -> None:
    """A step for each phase of the convolution."""
    for emit in convolution_kernels(memory, node):
        known: dict[Node, int] = {}
        e = _emission(memory, group, known)

        def finish(result: int, space: Space, e: Emission = e, known: dict[Node, int] = known) -> None:
            known[node] = result
            _store_results(memory, e, group, space)

        memory.plan.step(emit(e, finish), e.slots, e.params, label)
