"""Row operations as reductions and a final expression: `ROWS` says how each is put together.

    softmax(x)     m = max x;  s = Σ exp(x - m);  exp(x - m) / s
    cumsum(x)[i]   Σ_j (j <= i ? x[j] : 0)          quadratic, for the short rows that masks and positions have
    layer_norm(x)  m = Σ x / n;  v = Σ (x - m)² / n;  (x - m) · (1 / sqrt(v + eps)) · weight + bias

The result of a softmax or a norm has the shape of its input; that of a sum or a maximum has only the kept dims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.kernels import Reduction
from ..program.sizes import Size, product
from .emission import Emission, Space
from .symbols import DTYPE_NAMES, to_sizes

_A = torch.ops.aten


@dataclass
class RowBody:
    """Helps a row operation to say its reductions: each gives the body node of its result."""

    emission: Emission
    node: Node
    full: Space
    kept: Space
    extent: Size
    reductions: list[Reduction]

    def x(self, dtype: str = "") -> int:
        """The input's element."""
        return self.emission.operand(self.node.args[0], dtype or self.result, self.full)

    @property
    def result(self) -> str:
        return DTYPE_NAMES[self.node.meta["val"].dtype]

    def reduce(self, kind: str, element: int) -> int:
        """The reduction of `element` over the row."""
        self.reductions.append(Reduction(kind, element))
        dtype = self.emission.body.nodes[element].dtype
        return self.emission.body.add("value", (), dtype, (len(self.reductions) - 1,))

    def divided_by_extent(self, total: int) -> int:
        """The mean from the sum."""
        e = self.emission
        if isinstance(self.extent, int):
            return e.call("div", total, e.const("f32", self.extent))
        return e.call("div", total, e.cast(e.body.add("extent", (), "i64", (self.extent,)), "f32"))


def _softmax(row: RowBody) -> int:
    e, x = row.emission, row.x("f32")
    power = e.call("exp", e.call("sub", x, row.reduce("max", x)))
    return e.call("div", power, row.reduce("sum", power))


def _log_softmax(row: RowBody) -> int:
    e, x = row.emission, row.x("f32")
    shifted = e.call("sub", x, row.reduce("max", x))
    return e.call("sub", shifted, e.call("log", row.reduce("sum", e.call("exp", shifted))))


def _layer_norm(row: RowBody) -> int:
    e, x, given = row.emission, row.x("f32"), arguments(row.node)
    centred = e.call("sub", x, row.divided_by_extent(row.reduce("sum", x)))
    variance = row.divided_by_extent(row.reduce("sum", e.call("mul", centred, centred)))
    y = e.call("mul", centred, e.call("rsqrt", e.call("add", variance, e.const("f32", given["eps"]))))
    for name, op in (("weight", "mul"), ("bias", "add")):
        if given[name] is not None:
            y = e.call(op, y, e.operand(given[name], "f32", row.full))
    return y


def _reduction(kind: str, dtype: str = "") -> Callable[[RowBody], int]:
    return lambda row: row.reduce(kind, row.x(dtype))


def _mean(row: RowBody) -> int:
    return row.divided_by_extent(row.reduce("sum", row.x("f32")))


def _norm(row: RowBody) -> int:
    x = row.x("f32")
    return row.emission.call("sqrt", row.reduce("sum", row.emission.call("mul", x, x)))


def _cumsum(row: RowBody) -> int:
    """`kept` holds the output's dims, and one reduced dim walks the input's row once more."""
    e, dtype = row.emission, row.result
    dim = arguments(row.node)["dim"] % len(row.kept.shape)
    here = e.body.add("index", (), "i64", (row.kept.positions[dim] or 0,))
    there = e.body.add("index", (), "i64", (row.full.rank - 1,))
    x = row.x(dtype)
    counts = e.call("le", there, here, dtype="bool")
    return row.reduce("sum", e.call("select", counts, x, e.const(dtype, 0), dtype=dtype))


@dataclass(frozen=True)
class RowOperation:
    """How to compute it, whether its result needs every element again, and whether it keeps the dim it runs over."""

    emit: Callable[[RowBody], int]
    full: bool
    keeps_reduced: bool = False


ROWS: Mapping[Any, RowOperation] = {
    _A.softmax.int: RowOperation(_softmax, True),
    _A.log_softmax.int: RowOperation(_log_softmax, True),
    _A.layer_norm.default: RowOperation(_layer_norm, True),
    _A.sum.dim_IntList: RowOperation(_reduction("sum"), False),
    _A.sum.default: RowOperation(_reduction("sum"), False),
    _A.prod.dim_int: RowOperation(_reduction("prod"), False),
    _A.amax.default: RowOperation(_reduction("max"), False),
    _A.amin.default: RowOperation(_reduction("min"), False),
    _A.any.dim: RowOperation(_reduction("any", "bool"), False),
    _A.any.default: RowOperation(_reduction("any", "bool"), False),
    _A.all.dim: RowOperation(_reduction("all", "bool"), False),
    _A.all.default: RowOperation(_reduction("all", "bool"), False),
    _A.mean.dim: RowOperation(_mean, False),
    _A.mean.default: RowOperation(_mean, False),
    _A.linalg_vector_norm.default: RowOperation(_norm, False),
    _A.cumsum.default: RowOperation(_cumsum, False, keeps_reduced=True),
}


def reduced_dims(node: Node) -> tuple[int, ...]:
    """The dims of the input that a row operation runs over."""
    given = arguments(node)
    rank = node.args[0].meta["val"].dim()  # type: ignore[union-attr]
    if "normalized_shape" in given:
        return tuple(range(rank - len(given["normalized_shape"]), rank))
    dims = given.get("dim")
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return tuple(range(rank))
    listed = dims if isinstance(dims, (list, tuple)) else [dims]
    return tuple(sorted(d % rank for d in listed)) if rank else ()


def is_native_row(node: Node) -> bool:
    """Whether a row kernel computes this node: operator, dtypes and options."""
    if node.target not in ROWS or not isinstance(node.args[0], Node):
        return False
    x, y = node.args[0].meta.get("val"), node.meta.get("val")
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor) or x.dim() == 0:
        return False
    if x.dtype not in DTYPE_NAMES or y.dtype not in DTYPE_NAMES or not reduced_dims(node):
        return False
    name = str(node.target._schema.name).removeprefix("aten::")  # type: ignore[union-attr]
    given = arguments(node)
    if name == "cumsum":
        return y.dtype in (torch.float32, torch.int64)
    if name in ("any", "all"):
        return True
    if name in ("sum", "prod", "amax", "amin"):
        return y.dtype in (torch.float32, torch.int64)
    if name == "linalg_vector_norm" and given["ord"] not in (2, 2.0):
        return False
    if name in ("amax", "amin") and product(to_sizes(x.shape)) == 0:
        return False
    return bool(x.dtype == torch.float32 and y.dtype == torch.float32)
