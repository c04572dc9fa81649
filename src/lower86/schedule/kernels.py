"""From a group of nodes to a kernel and its step, by what anchors the group."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.fx import Node

from ..graph.source import describe
from ..ops.attention import int8_attention
from ..program.body import Body
from ..program.body import Node as BodyNode
from ..program.dtypes import computed
from ..program.kernels import Rows
from ..program.sizes import Size, product
from .attention import emit_attention
from .convolutions import convolution_kernels
from .emission import NOWHERE, Axis, Emission, Space, coalesced
from .geometry import is_native_convolution
from .grouping import Group
from .memory import Memory, add_pointwise
from .pointwise import pointwise_of
from .rowbody import RowBody
from .rows import ROWS, reduced_dims
from .symbols import to_sizes
from .templates import emit_product

_A = torch.ops.aten


def emit_group(memory: Memory, group: Group) -> None:
    """Adds the group's step to the plan."""
    label = " + ".join(node.name for node in group.nodes)
    if group.anchor is None:
        assert group.shape is not None
        e = _emission(memory, group, {})
        order = memory.walk_order(group.nodes)
        _store_results(memory, e, group, group.nodes, Space.of(group.shape, order))
        add_pointwise(e, tuple(group.shape[d] for d in order), label)
    elif group.kind == "rows":
        _emit_rows(memory, group, group.anchor, label)
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


def _store_results(
    memory: Memory, e: Emission, group: Group, nodes: list[Node], space: Space, rank: int | None = None
) -> None:
    """Stores every node that somebody outside the group reads; with `rank`, along the body's first dims only."""
    inside = set(group.nodes)
    for node in nodes:
        if all(user in inside for user in node.users) and node not in memory.outputs:
            e.read(node, space)
            continue
        result = e.read_stored(node, space)
        dtype = e.dtype_of(node)
        view = memory.store_of(node, dtype, to_sizes(node.meta["val"].shape))
        e.store(view, space, result, rank)


def _emit_anchor(memory: Memory, group: Group, node: Node, label: str) -> None:
    known: dict[Node, int] = {}
    e = _emission(memory, group, known)

    def finish(result: int, space: Space) -> None:
        known[node] = result
        _store_results(memory, e, group, group.nodes, space)

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
            _store_results(memory, e, group, group.nodes, space)

        memory.plan.step(emit(e, finish), e.slots, e.params, label)


def _emit_rows(memory: Memory, group: Group, node: Node, label: str) -> None:
    source = node.args[0]
    assert isinstance(source, Node)
    x_shape, out_shape = to_sizes(source.meta["val"].shape), to_sizes(node.meta["val"].shape)
    operation = ROWS[node.target]
    reduced = reduced_dims(node)
    order = memory.order_of(source)
    # A cumsum keeps the dim that it also runs over.
    kept = [d for d in order if d not in reduced or operation.keeps_reduced]
    inner_dims = [d for d in order if d in reduced]
    rank = len(kept) + len(inner_dims)
    kept_axes = {d: Axis.along(i) for i, d in enumerate(kept)}
    axes = kept_axes | {d: Axis.along(len(kept) + i) for i, d in enumerate(inner_dims)}
    full = Space(x_shape, tuple(axes[d] for d in range(len(x_shape))), rank)
    after, stored = full, None
    if not operation.full:
        stored = len(kept)
        squeezed = len(out_shape) == len(kept)
        dims = [d for d in range(len(x_shape)) if not squeezed or d in kept_axes]
        after = Space(out_shape, tuple(kept_axes.get(d, NOWHERE) for d in dims), rank)

    known: dict[Node, int] = {}
    e = _emission(memory, group, known)
    row = RowBody(e, node, full, after, reduced, product(x_shape[d] for d in reduced), [])
    known[node] = operation.emit(row).cast(computed(e.dtype_of(node))).node
    position = group.nodes.index(node)
    _store_results(memory, e, group, group.nodes[:position], full)
    _store_results(memory, e, group, group.nodes[position:], after, stored)

    sizes, body = tuple(x_shape[d] for d in (*kept, *inner_dims)), e.body.build()
    if not kept:
        sizes, body = (1, *sizes), _with_leading_dim(body)
    body, sizes, count = _coalesced_rows(body, sizes, max(1, len(kept)))
    outer, inner = sizes[:count], sizes[count:]
    vertical = bool(kept) and kept[-1] == order[-1] and outer[-1] != 1
    length = product(inner) * (outer[-1] if vertical else 1)
    rows = max(1, 8192 // max(1, length)) if isinstance(length, int) else 4
    kernel = Rows(outer, inner, vertical, tuple(row.reductions), body, rows)
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

    stores = tuple(replace(s, strides=(0, *s.strides)) for s in body.stores)
    return Body(tuple(shifted(node) for node in body.nodes), stores)


def _coalesced_rows(body: Body, sizes: tuple[Size, ...], kept: int) -> tuple[Body, tuple[Size, ...], int]:
    """`coalesced` within the kept and within the reduced dims; also says how many kept dims are left."""
    marker: tuple[Size, ...] = (0,) * kept  # an access that never hinders, and loses a dim with every merge
    body, merged, (left,) = coalesced(body, sizes, [marker], barriers=[kept])
    return body, merged, len(left)
