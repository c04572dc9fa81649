"""When it pays that one kernel does several things to a row.

A row kernel walks a row several times, while it lies in the first cache level. What costs more than writing it down has
to fit there, too, once for each time it is wanted again. And rows are what threads share: all elements are only
computed beside a reduction where there are rows enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.fx import Node

from ..codegen.row_passes import COSTLY
from ..errors import GraphError
from ..graph.source import describe
from ..program.dtypes import computed
from ..program.kernels import ROW_BYTES
from ..program.sizes import Size, product
from .emission import Emission, Space
from .gathers import GATHERS
from .plan import Plan
from .pointwise import pointwise_of
from .row_shapes import RowShapes
from .symbols import to_sizes
from .views import View

_SOFTMAXES = (torch.ops.aten.softmax.int, torch.ops.aten._safe_softmax.default)
_LANES = 16
_ENOUGH = 16
"""Rows, or 16 rows side by side, that threads can share."""
_LITTLE = 8192
"""Elements that are one unit of work anyway."""
_LONG = 64
"""Elements of rows that are reduced side by side, each in a cache line of its own, which should stay where they are."""


def is_costly(node: Node) -> bool:
    """Whether computing the node again in every pass over a row would cost more than writing it down."""
    emit = pointwise_of(node)
    if emit is None or node.target in GATHERS:
        return node.target in _SOFTMAXES or node.target in GATHERS
    e = Emission(Plan(), _anything, _nowhere)
    emit(e, node, Space.of(to_sizes(node.meta["val"].shape)))
    return any(operation.op in COSTLY for operation in e.body.nodes)


def _anything(e: Emission, node: Node, space: Space) -> int:
    """An operand, wherever it comes from."""
    return e.body.add("value", (), computed(e.dtype_of(node)), (0,))


def _nowhere(node: Node) -> View:
    raise GraphError("an operand is read elsewhere than where the result is", where=describe(node), fix="report this")


def can_write_down(shapes: RowShapes, order: Sequence[int], nodes: Iterable[Node]) -> bool:
    """Whether a row kernel can keep a row of each costly one of these nodes, until it is wanted again."""
    length = product(shapes.full[d] for d in shapes.reduced)
    width = _LANES if _is_vertical(shapes, order) else 1
    count = sum(is_costly(node) and to_sizes(node.meta["val"].shape) == shapes.full for node in nodes)
    return count == 0 or (isinstance(length, int) and 4 * (length * width + _LANES) * count <= ROW_BYTES)


def can_share(shapes: RowShapes, order: Sequence[int]) -> bool:
    """Whether threads can share the rows, so that all elements may as well be computed there."""
    kept = [shapes.full[d] for d in order if d not in shapes.reduced]
    if _is_vertical(shapes, order):
        length = product(shapes.full[d] for d in shapes.reduced)
        return isinstance(length, int) and length <= _LONG and _are_enough(kept[:-1], shapes.full)
    return _are_enough(kept, shapes.full)


def _are_enough(rows: Sequence[Size], full: Sequence[Size]) -> bool:
    count, elements = product(rows), product(full)
    return not isinstance(count, int) or count >= _ENOUGH or (isinstance(elements, int) and elements <= _LITTLE)


def _is_vertical(shapes: RowShapes, order: Sequence[int]) -> bool:
    """Whether neighbours in memory belong to different rows."""
    return order[-1] not in shapes.reduced
