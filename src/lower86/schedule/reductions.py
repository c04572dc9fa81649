"""Rows that become one number, or one number an element.

argmax(x)      m = max x;  the least i with x[i] = m, or with x[i] NaN if m is
var(x)         m = Σ x / n;  Σ (x - m)² / max(n - correction, 0)
logsumexp(x)   m = max x, 0 if infinite;  log(Σ exp(x - m)) + m
cumsum(x)[i]   Σ_j (j <= i ? x[j] : 0)          quadratic, for the short rows that masks and positions have
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments, source_of, tensor_of
from .conditions import FLOAT32, FLOATS, When, in_float32, kind
from .rowbody import RowBody, RowOperation
from .scalars import At, Scalar, where

_A = torch.ops.aten
_LAST = 2**63 - 1
_LONGEST_CUMULATION = 1024
"""Elements of a row beyond which PyTorch's linear walk is faster than the square of the length, sixteen at a time."""


_NARROW = ("u8", "i8", "i32")
"""Integers whose largest and least are found as they are."""


def _wide(element: Scalar) -> Scalar:
    """As a dtype that reductions have: float32, float64, or int64 for every integer."""
    return element if element.is_float else element.cast("i64")


def _reduction(kind: str) -> Callable[[RowBody], Scalar]:
    def emit(row: RowBody) -> Scalar:
        x = row.x()
        return row.reduce(kind, x if x.dtype in _NARROW and kind in ("max", "min") else _wide(x)).cast(row.at.dtype)

    return emit


def _truth(kind: str) -> Callable[[RowBody], Scalar]:
    return lambda row: row.reduce(kind, row.x("bool"))


def _arg(kind: str) -> Callable[[RowBody], Scalar]:
    def emit(row: RowBody) -> Scalar:
        x = _wide(row.own())
        best = row.reduce(kind, x)
        hit = x.equals(best)
        if x.is_float:
            hit = where(best.is_nan(), x.is_nan(), hit)
        return row.reduce("min", where(hit, row.place(), _LAST))

    return emit


def _sum_without_nan(row: RowBody) -> Scalar:
    x = row.x()
    return row.reduce("sum", where(x.is_nan(), 0, x))


def _count_nonzero(row: RowBody) -> Scalar:
    return row.reduce("sum", row.x("bool").cast("i64"))


def _mean(row: RowBody) -> Scalar:
    return row.mean(row.x())


def _variance(row: RowBody) -> Scalar:
    x, at = row.x(), row.at
    correction = float(at.number("unbiased")) if "unbiased" in arguments(row.node) else at.number("correction")
    centred = x - row.mean(x)
    freedom = (row.count(x.dtype) - (1 if correction is None else correction)).at_least(0)
    return row.reduce("sum", centred * centred) / freedom


def _norm(row: RowBody) -> Scalar:
    x = abs(row.x())
    order = row.at.number("ord", row.at.number("p"))
    order = 2 if order is None else order
    if abs(order) == math.inf:
        return row.reduce("max" if order > 0 else "min", x)
    if order == 0:
        return row.reduce("sum", x.differs(0).cast(x.dtype))
    if order == 1:
        return row.reduce("sum", x)
    if order == 2:
        return row.reduce("sum", x * x).call("sqrt")
    return row.reduce("sum", x.call("pow", order)).call("pow", 1 / order)


def _log_sum_exp(row: RowBody) -> Scalar:
    x = row.x("f32")
    most = row.reduce("max", x)
    base = where(abs(most).equals(math.inf), 0, most)
    return row.reduce("sum", (x - base).call("exp")).call("log") + base


def _cumulative(kind: str, neutral: float) -> Callable[[RowBody], Scalar]:
    """`kept` holds the output's dims, and one reduced dim walks the input's row once more."""

    def emit(row: RowBody) -> Scalar:
        (dim,) = row.reduced
        here = At(row.emission, row.node, row.kept).index(dim)
        x = _wide(row.x())
        return row.reduce(kind, where(row.at.index(dim) <= here, x, neutral)).cast(row.at.dtype)

    return emit


def _extents(node: Node) -> list[Any]:
    """The sizes of the dims that the node runs over."""
    dims, shape = arguments(node).get("dim"), tensor_of(source_of(node)).shape
    if dims is None or dims == []:
        return list(shape)
    return [shape[d] for d in (dims if isinstance(dims, (list, tuple)) else [dims])]


def _has_elements(node: Node) -> bool:
    return all(not isinstance(size, int) or size > 0 for size in _extents(node)) and 0 not in node.meta["val"].shape


def _is_short(node: Node) -> bool:
    return all(not isinstance(size, int) or size <= _LONGEST_CUMULATION for size in _extents(node))


def _has_known_order(node: Node) -> bool:
    given = arguments(node)
    order = given.get("ord", given.get("p"))
    order = 2 if order is None else order
    plain = order in (0, 1, 2, math.inf, -math.inf)
    needs_elements = isinstance(order, (int, float)) and abs(order) == math.inf
    return (
        isinstance(order, (int, float)) and (plain or in_float32(node)) and (not needs_elements or _has_elements(node))
    )


def _is_known_dim(node: Node) -> bool:
    """PyTorch takes an empty list of dims for none here, elsewhere for all."""
    return arguments(node).get("dim") != []


_NUMBERS = When("no bool result", lambda node: kind(node) in ("float", "int", "uint"))
_SOME = When("of at least one element", _has_elements)
_SHORT = When(f"rows of at most {_LONGEST_CUMULATION} elements, or of a size known at the call", _is_short)
_ANY = When("", _is_known_dim)
_ORDER = When("float32; float64 of order 0, 1, 2 and ±Inf", _has_known_order)


def _all(packet: Any, *overloads: str) -> tuple[Any, ...]:
    return tuple(getattr(packet, overload) for overload in overloads)


_TABLE: tuple[tuple[tuple[Any, ...], RowOperation], ...] = (
    (_all(_A.sum, "dim_IntList", "default"), RowOperation(_reduction("sum"), _NUMBERS)),
    (_all(_A.nansum, "default"), RowOperation(_sum_without_nan, FLOATS)),
    (_all(_A.prod, "dim_int", "default"), RowOperation(_reduction("prod"), _NUMBERS)),
    (_all(_A.mean, "dim", "default"), RowOperation(_mean, FLOATS)),
    (_all(_A.var, "correction", "dim", "default"), RowOperation(_variance, FLOATS)),
    (
        _all(_A.std, "correction", "dim", "default"),
        RowOperation(lambda row: _variance(row).call("sqrt"), FLOATS),
    ),
    (_all(_A.amax, "default"), RowOperation(_reduction("max"), _SOME)),
    (_all(_A.amin, "default"), RowOperation(_reduction("min"), _SOME)),
    (_all(_A.max, "default"), RowOperation(_reduction("max"), _SOME)),
    (_all(_A.min, "default"), RowOperation(_reduction("min"), _SOME)),
    (_all(_A.argmax, "default"), RowOperation(_arg("max"), _SOME)),
    (_all(_A.argmin, "default"), RowOperation(_arg("min"), _SOME)),
    (_all(_A.any, "dim", "dims", "default"), RowOperation(_truth("any"), _ANY)),
    (_all(_A.all, "dim", "dims", "default"), RowOperation(_truth("all"), _ANY)),
    (_all(_A.count_nonzero, "dim_IntList", "default"), RowOperation(_count_nonzero, _ANY)),
    (_all(_A.linalg_vector_norm, "default"), RowOperation(_norm, _ORDER)),
    (_all(_A.norm, "ScalarOpt_dim", "Scalar"), RowOperation(_norm, _ORDER)),
    (_all(_A.logsumexp, "default"), RowOperation(_log_sum_exp, FLOAT32 & _SOME)),
    (_all(_A.cumsum, "default"), RowOperation(_cumulative("sum", 0), _NUMBERS & _SHORT, keeps_reduced=True)),
    (_all(_A.cumprod, "default"), RowOperation(_cumulative("prod", 1), _NUMBERS & _SHORT, keeps_reduced=True)),
)
REDUCTIONS: Mapping[Any, RowOperation] = {operator: how for operators, how in _TABLE for operator in operators}
