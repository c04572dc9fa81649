"""From a group of nodes to a kernel and its step, by what anchors the group."""

from __future__ import annotations

import torch
from torch.fx import Node

from ..graph.source import describe
from ..program.body import Body, Store
from ..program.body import Node as BodyNode
from ..program.kernels import Rows
from ..program.sizes import Size, product
from .emission import Emission, Space, coalesced
from .grouping import Group
from .memory import Memory, add_pointwise
from .pointwise import pointwise_of
from .rowbody import RowBody
from .rows import ROWS, reduced_dims
from .symbols import to_sizes
from .templates import emit_attention, emit_product

_A = torch.ops.aten


def emit_group(memory: Memory, group: Group) -> None:
    """Adds the group's step to the plan."""
    label = " + ".join(node.name for node in group.nodes)
    if group.anchor is None:
        assert group.shape is not None
        e = _emission(memory, group, {})
        _store_results(memory, e, group, group.nodes, Space.of(group.shape))
        add_pointwise(e, group.shape, label)
    elif group.kind == "rows":
        _emit_rows(memory, group, group.anchor, label)
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


def _store_results(
    memory: Memory, e: Emission, group: Group, nodes: list[Node], space: Space, rank: int | None = None
) -> None:
    """Stores every node that somebody outside the group reads; with `rank`, along the body's first dims only."""
    inside = set(group.nodes)
    for node in nodes:
        result = e.read(node, space)
        if all(user in inside for user in node.users) and node not in memory.outputs:
            continue
        dtype = e.dtype_of(node)
        view = memory.store_of(node, dtype, to_sizes(node.meta["val"].shape))
        e.body.store(e.view_slot(view), e.strides(view, space)[:rank], e.cast(result, dtype))


def _emit_anchor(memory: Memory, group: Group, node: Node, label: str) -> None:
    known: dict[Node, int] = {}
    e = _emission(memory, group, known)

    def finish(result: int, space: Space) -> None:
        known[node] = result
        _store_results(memory, e, group, group.nodes, space)

    attention = node.target is _A.scaled_dot_product_attention.default
    kernel = (emit_attention if attention else emit_product)(e, node, memory, finish)
    memory.plan.step(kernel, e.slots, e.params, label)


def _emit_rows(memory: Memory, group: Group, node: Node, label: str) -> None:
    source = node.args[0]
    assert isinstance(source, Node)
    x_shape, out_shape = to_sizes(source.meta["val"].shape), to_sizes(node.meta["val"].shape)
    operation = ROWS[node.target]
    reduced = list(reduced_dims(node))
    every = range(len(x_shape))
    # A cumsum keeps the dim that it also runs over.
    kept = [d for d in every if d not in reduced or operation.keeps_reduced]
    rank = len(kept) + len(reduced)
    place = {d: i for i, d in enumerate(kept)} | {d: len(kept) + i for i, d in enumerate(reduced)}
    full = Space(x_shape, tuple(place[d] for d in every), rank)
    after, stored = full, None
    if not operation.full:
        stored = len(kept)
        squeezed = len(out_shape) == len(kept)
        positions = range(len(kept)) if squeezed else (place[d] if d in kept else None for d in every)
        after = Space(out_shape, tuple(positions), rank)

    known: dict[Node, int] = {}
    e = _emission(memory, group, known)
    row = RowBody(e, node, full, after, tuple(reduced), product(x_shape[d] for d in reduced), [])
    known[node] = operation.emit(row).cast(e.dtype_of(node)).node
    position = group.nodes.index(node)
    _store_results(memory, e, group, group.nodes[:position], full)
    _store_results(memory, e, group, group.nodes[position:], after, stored)

    sizes, body = tuple(x_shape[d] for d in (*kept, *reduced)), e.body.build()
    if not kept:
        sizes, body = (1, *sizes), _with_leading_dim(body)
    body, sizes, count = _coalesced_rows(body, sizes, max(1, len(kept)))
    outer, inner = sizes[:count], sizes[count:]
    vertical = bool(kept) and kept[-1] == len(x_shape) - 1 and outer[-1] != 1
    length = product(inner)
    rows = max(1, 4096 // max(1, length)) if isinstance(length, int) else 4
    kernel = Rows(outer, inner, vertical, tuple(row.reductions), body, 1 if vertical else rows)
    memory.plan.step(kernel, e.slots, e.params, label)


def _with_leading_dim(body: Body) -> Body:
    """The body over one more dim in front, of size 1: rows need a kept dim even where all are reduced."""

    def shifted(node: BodyNode) -> BodyNode:
        first, *rest = node.attrs or (None,)
        if node.op in ("load", "gather"):
            strides, *others = rest
            assert isinstance(first, int)
            assert isinstance(strides, tuple)
            return BodyNode(node.op, node.args, node.dtype, (first, (0, *strides), *others))
        if node.op == "index":
            assert isinstance(first, int)
            return BodyNode(node.op, node.args, node.dtype, (first + 1,))
        return node

    stores = tuple(Store(s.slot, (0, *s.strides), s.node) for s in body.stores)
    return Body(tuple(shifted(node) for node in body.nodes), stores)


def _coalesced_rows(body: Body, sizes: tuple[Size, ...], kept: int) -> tuple[Body, tuple[Size, ...], int]:
    """`coalesced` within the kept and within the reduced dims; also says how many kept dims are left."""
    marker: tuple[Size, ...] = (0,) * kept  # an access that never hinders, and loses a dim with every merge
    body, merged, (left,) = coalesced(body, sizes, [marker], barriers=[kept])
    return body, merged, len(left)
