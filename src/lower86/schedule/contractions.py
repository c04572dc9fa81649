"""Contractions: which graph nodes they compute, and how their operands have to lie.

`linear`, `matmul`, `mm`, `bmm`, `lower86::int8_linear` and `lower86::int8_matmul` are one contraction kernel.
Everything after the product (scale, bias, what joined the group) is the kernel's body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ..graph.arguments import arguments
from ..ops.linear import int8_linear
from ..ops.matmul import int8_matmul
from ..program.kernels import TILE_COLUMNS, TILE_ROWS, Contraction, Left, Right
from ..program.program import Packing
from ..program.sizes import Size, ceil_div, product
from .emission import Emission, Finish, Space, coalesced
from .memory import Memory
from .products import int8_operands
from .symbols import TORCH_DTYPES, to_sizes
from .views import View, contiguous, expanded, permuted

_A = torch.ops.aten
_PRODUCTS = (_A.linear.default, _A.matmul.default, _A.mm.default, _A.bmm.default)
_WIDE_CHUNK = 32768
"""Terms of 255 x 128 that surely fit an int32 sum."""

_UNITS = 16
_UNIT_BYTES = 1 << 18
"""A quarter of the second cache level."""
_LEAST_WORK = 400_000
"""Multiply-accumulates of a unit: a microsecond, ten times what two threads lose when they take the same ticket."""


def is_native_product(node: Node) -> bool:
    """Whether the contraction kernel computes this node, whose result is in float32 or narrower."""
    if node.target in (int8_linear, int8_matmul):
        return True
    if node.target not in _PRODUCTS or not have_dtype_of(node, node.all_input_nodes):
        return False
    operands: Any = node.args
    left, right = (operand.meta["val"] for operand in operands[:2])
    if node.target is _A.linear.default:
        return bool(right.dim() == 2 and left.dim() >= 1)
    return bool(left.dim() >= 2 and right.dim() >= 2)


def emit_product(e: Emission, node: Node, memory: Memory, finish: Finish) -> Contraction:
    """The contraction kernel of a product node."""
    integer = node.target in (int8_linear, int8_matmul)
    given = arguments(node)
    names = [name for name in ("x", "input", "self") if name in given]
    left = memory.rows_of(given[names[0]]) if integer else memory.view(given[names[0]])
    right_node: Node = next(given[name] for name in ("weight", "mat2", "other", "y") if name in given)
    shape = to_sizes(node.meta["val"].shape)
    if len(shape) == 1:
        left, shape = with_row(left), (1, *shape)
    space = Space.of(shape)
    rank = len(shape)

    result_space = space if len(node.meta["val"].shape) == rank else Space.of(shape[1:], rank=rank)
    if integer:
        operands = int8_operands if node.target is int8_matmul else _int8_linear_operands
        kind, right, start, wide, result = operands(e, node, memory, left, result_space)
    else:
        kind, start, wide = e.dtype_of(node), 0, 0
        right = _float_right(e, node, right_node, memory, rank)
        result = e.body.add("value", (), "f32", (0,))
        bias = given.get("bias")
        if bias is not None:
            result = e.call("add", result, e.operand(bias, "f32", result_space))
    if kind == "bf16" and right.packed:
        left = memory.rows_of(left)  # two neighbours make a word
    left_slot = e.view_slot(left)
    finish(result, result_space)

    leading = expanded(left, (*shape[:-2], *left.shape[-2:]))
    left_strides = (*leading.strides[:-1],)
    right_strides = (*right.batch, 0)
    # Rows of several batches are rows of one product only if all meet the same right matrix.
    shared = all(stride == 0 for stride in right.batch)
    body, sizes, (left_strides, right_strides) = coalesced(
        e.body.build(), shape, [left_strides, right_strides], barriers=[rank - 1] if shared else [rank - 2, rank - 1]
    )
    n, k = sizes[-1], left.shape[-1]
    first = 0 if shared else len(sizes) - 2
    batch, m = sizes[:first], sizes[first:-1]
    operand = Left(left_slot, left_strides[:first], left_strides[first:], (left.strides[-1],))
    right = Right(right.slot, right_strides[:first], right.k, right.packed)
    below = columns_below(n, k) if right.packed else 0
    blocks = row_blocks(product(m), n, k, 2 if wide else TILE_ROWS, below, product(left.shape))
    return Contraction(kind, batch, m, n, (k,), operand, right, start, wide, body, blocks, below)


def have_dtype_of(node: Node, operands: Sequence[Node]) -> bool:
    """Whether all operands are tensors of the result's dtype."""
    values = [node.meta["val"], *(operand.meta.get("val") for operand in operands)]
    return all(isinstance(value, Tensor) and value.dtype == values[0].dtype for value in values)


def float_packing(weight: Tensor) -> str:
    """How a float weight is laid out."""
    return "bf16_panels" if weight.dtype == torch.bfloat16 else "float_panels"


def with_row(view: View) -> View:
    """The view with a dim of size 1 in front."""
    return View(view.value, view.dtype, (1, *view.shape), (0, *view.strides), view.offset)


def row_blocks(m: Size, n: Size, k: Size, rows: int, below: int, left: Size) -> Size:
    """Blocks of rows: enough units to share out, each long enough to be worth taking.

    The rows of a unit, of `left` bytes in all, stay in the second cache level while one panel after another meets them.
    Two threads should get the same: an even number of units or, where they part the rows, of blocks of rows. They part
    the columns where there are fewer rows than `below`.
    """
    if not isinstance(n, int):
        return ceil_div(m, rows) // 4 + 1
    panels = max(1, -(-n // TILE_COLUMNS))
    if not isinstance(m, int):
        if panels > 1 and below:
            return 1 + m // below
        more = 2 * (left // (2 * _UNIT_BYTES)) if panels > 1 else 0
        return max(2, -(-_UNITS // panels) // 2 * 2) + more
    tiles = max(1, -(-m // rows))
    least = max(1, -(-_LEAST_WORK // (rows * TILE_COLUMNS * max(1, k)))) if isinstance(k, int) else 1
    wanted = max(1 if m < below else 2, min(tiles // least, -(-_UNITS // panels)))
    if panels > 1 and isinstance(left, int):
        wanted = max(wanted, min(tiles, -(-left // _UNIT_BYTES)))
    near = [b for b in (wanted, wanted + 1, wanted - 1, wanted - 2) if 0 < b <= tiles]
    even = [b for b in near if b * (panels if m < below else 1) % 2 == 0]
    exact = [b for b in even if -(-tiles // -(-tiles // b)) == b]
    chosen = (exact or even or near or [1])[0]
    return -(-tiles // -(-tiles // chosen))


def columns_below(n: Size, k: Size) -> int:
    """With how many rows a thread's part of a contraction ceases to be some columns of all rows.

    Parts of columns read each weight on one core only, but meet rows that other cores wrote, and leave their results in
    pieces of rows. That is worth it where weights are by far the most of the elements, twice as many as the rest;
    ResNet-50 is fastest at that.
    """
    return -(-n * k // (2 * (n + k))) if isinstance(n, int) and isinstance(k, int) and n + k else 0


def _int8_linear_operands(
    e: Emission, node: Node, memory: Memory, left: View, space: Space
) -> tuple[str, Right, int, int, int]:
    given = arguments(node)
    weight = memory.constant(given["weight"])
    assert weight is not None
    kind = "s8s8" if left.dtype == "i8" else "u8s8"
    zero_point = given["x_zero_point"] + (128 if kind == "s8s8" else 0)
    dynamic = given["row_zero_point"] is not None
    start, wide = column_start(weight, zero_point, 255 if dynamic else 0)
    right = Right(e.slot(e.plan.constant(weight, Packing("int8_panels"))), (0,) * (space.rank - 2), packed=True)
    start_slot = e.slot(e.plan.constant(start))
    scale = e.operand(given["scale"], "f32", space)
    if dynamic:
        # The rows' zero points come off the integer sum, so that it stays exact.
        dtype = "i64" if wide else "i32"
        sums = torch.zeros(weight.shape[0], dtype=torch.int64) + weight.to(torch.int64).sum(1)
        columns = contiguous(e.plan.constant(sums.to(TORCH_DTYPES[dtype])), dtype, (weight.shape[0],))
        excess = e.call("mul", e.operand(given["row_zero_point"], dtype, space), e.load(columns, space))
        exact = e.cast(e.call("sub", e.body.add("value", (), dtype, (0,)), excess), "f32")
    else:
        exact = e.body.add("value", (), "f32", (0,))
        if not wide:
            e.integers.add(exact)
    if given["row_scale"] is not None:
        scale = e.call("mul", scale, e.operand(given["row_scale"], "f32", space))
    bias = e.operand(given["bias"], "f32", space) if given["bias"] is not None else None
    return kind, right, start_slot, wide, scaled(e, exact, scale, bias)


def scaled(e: Emission, exact: int, scale: int, bias: int | None) -> int:
    """exact · scale + bias, rounded once."""
    return e.call("mul", exact, scale) if bias is None else e.call("fma", exact, scale, bias)


def column_start(weight: Tensor, zero_point: int, most_later: int = 0) -> tuple[Tensor, int]:
    """What each column's sum begins with, -zero_point·Σ weight; after how many terms it moves to 64 bits (0: never).

    `weight` is [n, k] or [groups, n, taps, run]; each group's columns fill panels of their own. The sum itself wraps
    harmlessly; only its final value has to fit. Bounds are those of the weights at hand, and of the zero points up to
    `most_later` that come off later.
    """
    columns = weight.flatten(2) if weight.dim() == 4 else weight.unsqueeze(0)
    wide = columns.to(torch.int64)
    start = -zero_point * wide.sum(2)
    later = most_later * wide.sum(2).abs()
    high = 255 * wide.clamp(min=0).sum(2) + start + later
    low = 255 * wide.clamp(max=0).sum(2) + start - later
    fits = weight.numel() == 0 or (int(high.max()) < 2**31 and int(low.min()) >= -(2**31))
    padded = torch.nn.functional.pad(start, (0, -start.shape[1] % TILE_COLUMNS)).reshape(-1)
    return (padded.to(torch.int32), 0) if fits else (padded, _WIDE_CHUNK)


def _float_right(e: Emission, node: Node, right_node: Node, memory: Memory, rank: int) -> Right:
    constant = memory.constant(right_node)
    transposed = node.target is _A.linear.default
    if constant is not None and constant.dim() == 2:
        weight = constant if transposed else constant.T
        packing = Packing(float_packing(weight))
        return Right(e.slot(e.plan.constant(weight, packing)), (0,) * (rank - 2), packed=True)
    view = memory.view(right_node)
    view = memory.rows_of(permuted(view, [1, 0]) if transposed else view)
    view = expanded(view, (*to_sizes(node.meta["val"].shape)[: rank - 2], *view.shape[-2:]))
    return Right(e.view_slot(view), view.strides[:-2], view.strides[-2])
