"""When it pays that one kernel does several things to a row.

A row kernel walks a row several times, while it lies in the first cache level. What costs more than writing it down has
to fit there, too, once for each time it is wanted again. And rows are what threads share: all elements are only
computed beside a reduction where there are rows enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch.fx import Node

from ..program.kernels import ROW_BYTES
from ..program.sizes import Size, product
from .row_shapes import RowShapes
from .symbols import to_sizes

_COSTLY = frozenset(
    ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "erf", "erfc", "tanh", "sigmoid", "log_sigmoid", "silu",
     "gelu", "mish", "softplus", "elu", "celu", "selu", "logit", "pow", "sin", "cos", "tan", "sinh", "cosh", "asin",
     "acos", "atan", "atan2", "asinh", "acosh", "atanh", "fmod", "remainder", "logaddexp", "softmax", "_safe_softmax",
     "xlogy", "logaddexp2", "erfinv", "index", "embedding", "gather", "index_select")
)  # fmt: skip
_LANES = 16
_ENOUGH = 16
"""Rows, or 16 rows side by side, that threads can share."""
_LITTLE = 8192
"""Elements that are one unit of work anyway."""
_LONG = 64
"""Elements of rows that are reduced side by side, each in a cache line of its own, which should stay where they are."""


def is_costly(node: Node) -> bool:
    """Whether computing the node again in every pass over a row would cost more than writing it down."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and str(schema.name).split("::")[-1] in _COSTLY


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
