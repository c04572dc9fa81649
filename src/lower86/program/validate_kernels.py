"""Whether a kernel is one that can be emitted: dims that fit each other, counts that stay small, a sound body."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import limits
from .body import Body
from .dtypes import DTYPES
from .kernels import (
    Attention,
    Contraction,
    Depthwise,
    Fill,
    Interleave,
    Kernel,
    Left,
    Pack,
    Pointwise,
    Rows,
)  # fmt: skip
from .signatures import REDUCED
from .sizes import Size, SizeExpr, product
from .validate_bodies import Places, Sizes, check_body, refuse

_INT8 = ("u8s8", "s8s8")
_FLOATS = ("f32", "bf16", "f16")


def check_kernel(kernel: Kernel, where: str) -> None:
    """Raises ArtifactError for a kernel for which there is no code."""
    _CHECKS[type(kernel)](kernel, where)


def _space(dims: Sequence[Size], sizes: Sizes, where: str, least: int = 1) -> None:
    """The dims of an index space: at least `least`, none below 0, their product no monster."""
    if not least <= len(dims) <= limits.MOST_RANK:
        raise refuse(where, f"{len(dims)} dims")
    sizes.check_all(dims, low=0)
    if math.prod(max(1, size) for size in dims if isinstance(size, int)) > limits.MOST_POINTS:
        raise refuse(where, "more points than anyone can visit")
    if math.prod(len(size.terms) + 1 for size in dims if isinstance(size, SizeExpr)) > limits.MOST_EXPANDED:
        raise refuse(where, "sizes whose product has too many terms")


def _count(number: int, what: str, where: str, most: int = limits.MOST_ROWS) -> None:
    if not 1 <= number <= most:
        raise refuse(where, f"{what}: {number}")


def _slot(number: int, where: str) -> None:
    if not 0 <= number < limits.MOST_SLOTS:
        raise refuse(where, f"no slot has the number {number}")


def _pointwise(kernel: Pointwise, where: str) -> None:
    sizes = Sizes(where)
    _space(kernel.sizes, sizes, where)
    _count(kernel.rows, "rows of a unit", where)
    _count(kernel.chunk, "columns of a unit", where)
    rank = len(kernel.sizes)
    check_body(kernel.body, Places(rank, store_ranks=range(rank + 1), scatters=True), sizes, f"{where}.body")


def _interleave(kernel: Interleave, where: str) -> None:
    sizes = Sizes(where)
    _space(kernel.sizes, sizes, where, 2)
    _count(kernel.rows, "rows of a unit", where)
    channels, rank = kernel.sizes[-1], len(kernel.sizes)
    if not isinstance(channels, int) or not 1 <= channels <= limits.MOST_CHANNELS:
        raise refuse(where, f"up to {limits.MOST_CHANNELS} elements are interleaved, not {channels}")
    check_body(kernel.body, Places(rank, store_ranks=(rank,), copies=channels), sizes, f"{where}.body")
    for number, store in enumerate(kernel.body.stores):
        if store.strides[-2:] != (channels, 1):
            raise refuse(f"{where}.body.stores[{number}]", "a store that leaves gaps between interleaved elements")


def _rows(kernel: Rows, where: str) -> None:
    sizes = Sizes(where)
    kept, reduced = len(kernel.kept), len(kernel.reduced)
    _space([*kernel.kept, *kernel.reduced], sizes, where)
    _count(kernel.rows, "rows of a unit", where)
    if not reduced or (kernel.vertical and not kept):
        raise refuse(where, "lanes along a dim that there is not")
    if len(kernel.reductions) > limits.MOST_REDUCTIONS:
        raise refuse(where, f"more than {limits.MOST_REDUCTIONS} reductions")
    values: dict[int, str] = {}
    for number, reduction in enumerate(kernel.reductions):
        at = f"{where}.reductions[{number}]"
        if not 0 <= reduction.node < len(kernel.body.nodes):
            raise refuse(at, f"there is no operation {reduction.node}")
        values[number] = kernel.body.nodes[reduction.node].dtype
        if values[number] not in REDUCED.get(reduction.kind, ()):
            raise refuse(at, f"{reduction.kind!r} of {values[number]}")
    # A body is written out once for whole rows, and for every pass: there, for each of the totals side by side.
    copies = 1 if kernel.vertical else 3
    places = Places(kept + reduced, values, (kept, kept + reduced), copies=copies)
    check_body(kernel.body, places, sizes, f"{where}.body")
    latest = latest_values(kernel.body)
    for number, reduction in enumerate(kernel.reductions):
        if latest[reduction.node] >= number:
            raise refuse(f"{where}.reductions[{number}]", "a reduction of its own result, or of a later one's")
    passes = 1 + copies * len({latest[reduction.node] for reduction in kernel.reductions})
    if passes * len(kernel.body.nodes) > limits.MOST_WEIGHT:
        raise refuse(where, "more operations than a kernel may have")


def latest_values(body: Body) -> list[int]:
    """For each node the highest number of the values that it follows from; -1 for none."""
    latest: list[int] = []
    for node in body.nodes:
        own = node.number if node.op == "value" else -1
        latest.append(max((latest[argument] for argument in node.args), default=own))
    return latest


def _left(left: Left, batch: int, m: int, k: int, sizes: Sizes, where: str) -> None:
    _slot(left.slot, where)
    if (len(left.batch), len(left.m), len(left.k)) != (batch, m, k):
        raise refuse(where, "strides of other dims than the kernel's")
    sizes.check_all((*left.batch, *left.m, *left.k))


def _contraction(kernel: Contraction, where: str) -> None:
    sizes = Sizes(where)
    _space([*kernel.batch, *kernel.m, kernel.n], sizes, where, 2)
    _space([*kernel.batch, *kernel.m, kernel.n, *kernel.k], sizes, where)
    if kernel.kind not in (*_INT8, *_FLOATS):
        raise refuse(where, f"products of {kernel.kind!r}")
    if not kernel.m or not kernel.k:
        raise refuse(where, "a product without rows, or without a sum")
    integer = kernel.kind in _INT8
    _left(kernel.left, len(kernel.batch), len(kernel.m), len(kernel.k), sizes, f"{where}.left")
    if (integer or kernel.in_pairs) and kernel.left.k[-1] != 1:
        raise refuse(f"{where}.left", "words whose elements lie apart")
    right = kernel.right
    _slot(right.slot, f"{where}.right")
    if len(right.batch) != len(kernel.batch) or (integer and not right.packed):
        raise refuse(f"{where}.right", "no right operand of this product")
    sizes.check_all((*right.batch, right.k))
    if kernel.wide and not (integer and kernel.wide % 4 == 0 and 4 <= kernel.wide <= 1 << 20):
        raise refuse(where, f"sums that are widened after {kernel.wide} products")
    sizes.check(kernel.blocks, low=1)
    if isinstance(kernel.blocks, int):
        _count(kernel.blocks, "blocks of rows", where)
    elif isinstance(product(kernel.m), int):
        raise refuse(where, "blocks that vary, of rows that do not")
    if not 0 <= kernel.columns_below <= limits.MOST_NUMBER:
        raise refuse(where, f"parts of columns for fewer than {kernel.columns_below} rows")
    own: Mapping[int, str]
    if integer:
        _slot(kernel.start, where)
        own = _sum_values(kernel.body, "i64" if kernel.wide else "i32")
    else:
        own = {0: "f32"}
    rank = len(kernel.batch) + len(kernel.m) + 1
    check_body(kernel.body, Places(rank, own, (rank,), copies=4), sizes, f"{where}.body")


def _sum_values(body: Body, exact: str) -> Mapping[int, str]:
    """The dtype of integer sums as the body has them: all as float32, or all as they are."""
    as_float = all(node.dtype == "f32" for node in body.nodes if node.op == "value")
    return {0: "f32" if as_float else exact}


def _depthwise(kernel: Depthwise, where: str) -> None:
    sizes = Sizes(where)
    _space([*kernel.m, kernel.channels], sizes, where, 2)
    if kernel.kind not in (*_INT8, *_FLOATS):
        raise refuse(where, f"products of {kernel.kind!r}")
    _count(kernel.channels, "channels", where)
    _count(kernel.rows, "rows of a unit", where)
    if not 1 <= len(kernel.taps) <= limits.MOST_RANK or any(tap < 0 for tap in kernel.taps):
        raise refuse(where, "no taps")
    if math.prod(max(1, tap) for tap in kernel.taps) > limits.MOST_TAPS:
        raise refuse(where, f"more than {limits.MOST_TAPS} taps")
    _left(kernel.left, 0, len(kernel.m), len(kernel.taps), sizes, f"{where}.left")
    _slot(kernel.weight, where)
    integer = kernel.kind in _INT8
    if integer:
        _slot(kernel.start, where)
    own = _sum_values(kernel.body, "i32") if integer else {0: "f32"}
    rank = len(kernel.m) + 1
    # Four outputs side by side of four vectors each, and each by itself; the last channels of their own.
    check_body(kernel.body, Places(rank, own, (rank,), copies=8), sizes, f"{where}.body")


def _attention(kernel: Attention, where: str) -> None:
    sizes = Sizes(where)
    _space([kernel.batch, kernel.heads, kernel.queries, kernel.keys], sizes, where)
    _count(kernel.head_dim, "dims of a head", where, limits.MOST_HEAD)
    _count(kernel.value_dim, "dims of a value", where, limits.MOST_HEAD)
    _count(kernel.groups, "query heads of a key head", where)
    for strides in (kernel.q, kernel.k, kernel.v):
        sizes.check_all(strides)
    if kernel.dtype not in _FLOATS:
        raise refuse(where, f"attention of {kernel.dtype!r}")
    operands = kernel.integers
    if operands and not {operands.query, operands.key, operands.value} <= {"u8", "i8"}:
        raise refuse(where, "attention on other integers than bytes")
    if kernel.mask is not None:
        at = f"{where}.mask"
        check_body(kernel.mask, Places(4, copies=8), sizes, at)
        if kernel.mask.stores or not 0 <= kernel.mask_node < len(kernel.mask.nodes):
            raise refuse(at, "a mask is one of its operations, and stores nothing")
        if kernel.mask.nodes[kernel.mask_node].dtype not in ("f32", "bool"):
            raise refuse(at, "a mask is of float32 or of bools")
    check_body(kernel.body, Places(4, {0: "f32"}, (4,)), sizes, f"{where}.body")


def _pack(kernel: Pack, where: str) -> None:
    sizes = Sizes(where)
    _space([*kernel.batch, kernel.k, kernel.n], sizes, where)
    if kernel.dtype not in ("u8", "i8"):
        raise refuse(where, f"panels of {kernel.dtype!r}")
    if len(kernel.strides) != len(kernel.batch) + 2:
        raise refuse(where, "strides of other dims than the kernel's")
    sizes.check_all(kernel.strides)
    if 1 not in kernel.strides[-2:]:
        raise refuse(where, "panels of a matrix that has neither rows nor columns without gaps")
    if kernel.rows is None:
        return
    at = f"{where}.rows"
    _space(kernel.rows.sizes, sizes, at, 0)
    _space([*kernel.rows.sizes, kernel.k], sizes, at)
    if kernel.rows.dtype not in ("u8", "i8"):
        raise refuse(at, f"sums of {kernel.rows.dtype!r}")
    if len(kernel.rows.strides) != len(kernel.rows.sizes):
        raise refuse(at, "strides of other dims than the rows'")
    sizes.check_all(kernel.rows.strides)


def _fill(kernel: Fill, where: str) -> None:
    sizes = Sizes(where)
    _slot(kernel.slot, where)
    if kernel.dtype not in DTYPES:
        raise refuse(where, f"an unknown dtype {kernel.dtype!r}")
    sizes.check(kernel.elements)
    if len(kernel.bands) > limits.MOST_BANDS:
        raise refuse(where, f"more than {limits.MOST_BANDS} bands")
    for number, band in enumerate(kernel.bands):
        at = f"{where}.bands[{number}]"
        if not 1 <= len(band.shape) <= limits.MOST_RANK or len(band.strides) != len(band.shape) - 1:
            raise refuse(at, "a band has a stride for each dim but the last")
        sizes.check_all((band.offset, *band.shape, *band.strides))


_CHECKS: Mapping[type[Any], Callable[[Any, str], None]] = {
    Pointwise: _pointwise,
    Interleave: _interleave,
    Rows: _rows,
    Contraction: _contraction,
    Depthwise: _depthwise,
    Attention: _attention,
    Pack: _pack,
    Fill: _fill,
}
