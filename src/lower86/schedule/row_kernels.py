"""From a group of row operations to its kernel.

Every node is computed in the space of its own shape: that of the rows, or that of one number a row. Reductions become
the kernel's own as they are met; what somebody else reads is stored, at every element or once a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch.fx import Node

from ..graph.source import describe
from ..program.body import Body
from ..program.body import Node as BodyNode
from ..program.dtypes import computed
from ..program.kernels import Reduction, Rows
from ..program.sizes import Size, ceil_div, product
from .emission import NOWHERE, Axis, Emission, Space, coalesced
from .grouping import Group
from .kinds import is_computed_by_its_reader
from .memory import Memory
from .pointwise import pointwise_of
from .row_shapes import Dims
from .rowbody import RowBody
from .rows import ROWS, reduced_dims
from .symbols import to_sizes


def emit_rows(memory: Memory, group: Group, label: str) -> None:
    """Adds the step of a group of row operations to the plan."""
    assert group.anchor is not None
    source = group.anchor.args[0]
    assert isinstance(source, Node)
    reduced, order = reduced_dims(group.anchor), memory.order_of(source)
    spaces = _Spaces(group, to_sizes(source.meta["val"].shape), order)
    reductions: list[Reduction] = []
    extent = product(spaces.full.shape[d] for d in reduced)

    def read(e: Emission, node: Node, space: Space) -> int:
        known = spaces.source(node)
        if known is None:
            return e.load(memory.view(node), space)
        own = space if is_computed_by_its_reader(known) else spaces.of(known)
        if (known, own) != (node, space):
            return e.read(known, own)
        emit = pointwise_of(known)
        if emit is not None:
            return emit(e, known, space)
        row = RowBody(e, known, spaces.full, own, reduced, extent, reductions)
        return ROWS[known.target].emit(row).cast(computed(e.dtype_of(known))).node

    e = Emission(memory.plan, read, memory.view)
    for node in group.nodes:
        if node in memory.outputs or spaces.is_read_outside(node):
            space = spaces.of(node)
            view = memory.store_of(node, e.dtype_of(node), to_sizes(node.meta["val"].shape))
            e.store(view, space, e.read_stored(node, space), None if space == spaces.full else len(spaces.kept))

    sizes, body = tuple(spaces.full.shape[d] for d in (*spaces.kept, *spaces.inner)), e.body.build()
    if not spaces.kept:
        sizes, body = (1, *sizes), _with_leading_dim(body)
    body, sizes, count = _coalesced_rows(body, sizes, max(1, len(spaces.kept)))
    outer, inner = sizes[:count], sizes[count:]
    vertical = bool(spaces.kept) and spaces.kept[-1] == order[-1] and outer[-1] != 1
    rows = _rows_of_a_unit(outer[:-1] if vertical else outer, inner, outer[-1] if vertical else 1, len(reductions))
    memory.plan.step(Rows(outer, inner, vertical, tuple(reductions), body, rows), e.slots, e.params, label)


def _rows_of_a_unit(kept: tuple[Size, ...], reduced: tuple[Size, ...], width: Size, reductions: int) -> int:
    """Rows, of `width` side by side, that take a microsecond: of all rows an even number of units, of equally many.

    Half as many where it is not known how many rows the last unit has.
    """
    length, total = product(reduced) * width, product(kept)
    if not isinstance(length, int):
        return 4
    rows = max(1, 16384 // max(1, length * (reductions + 1)))
    if not isinstance(total, int):
        return -(-rows // 2)
    if total <= rows:
        return rows
    units = ceil_div(total, rows)
    assert isinstance(units, int)
    return -(-total // (units + units % 2))


class _Spaces:
    """How the dims of a group's nodes follow from the kernel's: those kept, then those reduced, as memory has them."""

    def __init__(self, group: Group, shape: tuple[Size, ...], order: Sequence[int]) -> None:
        assert group.anchor is not None
        self._nodes, self._inside, self._shapes = group.nodes, set(group.nodes), group.rows
        self._first = group.nodes.index(group.anchor)
        reduced = reduced_dims(group.anchor)
        # A cumsum keeps the dim that it also runs over.
        self.kept = [d for d in order if d not in reduced or group.rows is None]
        self.inner = [d for d in order if d in reduced]
        rank = len(self.kept) + len(self.inner)
        self._kept_axes = {d: Axis.along(i) for i, d in enumerate(self.kept)}
        axes = self._kept_axes | {d: Axis.along(len(self.kept) + i) for i, d in enumerate(self.inner)}
        self.full = Space(shape, tuple(axes[d] for d in range(len(shape))), rank)

    def of(self, node: Node) -> Space:
        """The space of a node of the group."""
        shape = to_sizes(node.meta["val"].shape)
        dims: Dims | None = tuple(range(len(shape)))
        if self._shapes is None:
            is_full = self._nodes.index(node) < self._first
        else:
            is_full, dims = shape == self.full.shape, self._shapes.dims(shape)
        if is_full:
            return self.full
        assert dims is not None, describe(node)
        return Space(shape, tuple(NOWHERE if d is None else self._kept_axes[d] for d in dims), self.full.rank)

    def source(self, node: Node) -> Node | None:
        """The node of the group that this one is, if it is one."""
        if self._shapes is None:
            return node if node in self._inside else None
        return self._shapes.source(node, self._inside)

    def is_read_outside(self, node: Node) -> bool:
        """Whether somebody else reads a node, or what movement within the rows makes of it."""
        others = [user for user in node.users if user not in self._inside]
        return any(self.source(user) is None or self.is_read_outside(user) for user in others)


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
