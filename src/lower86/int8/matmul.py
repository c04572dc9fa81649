"""Int8 products of two activations, where they are no attention.

    dequantize(x) --.
                     matmul(·, ·)   ->   lower86::int8_matmul(x, y, x_zero_point, y_zero_point, scale)
    dequantize(y) --'

s8 and u8 on either side, any zero points. A `linear` whose weight is computed in every call is such a product, too. A
constant on one side, with more dims than a weight, may have a scale for each row of x or each column of y.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import constant_of, insert, insert_constant
from ..graph.qparams import QParams, is_dequantize, qparams_of
from ..ops.matmul import int8_matmul
from .operands import as_float32, finish, in_blocks
from .record import Lowered, Refusal, record, size_hint

_A = torch.ops.aten
_BYTES = (torch.uint8, torch.int8)


def lower_matmul(module: GraphModule, node: Node) -> Lowered | Refusal | None:
    """Rewrites one product whose operands are both dequantized, and none a constant matrix."""
    operands = _operands(module, node)
    if operands is None or not any(is_dequantize(operand) or in_blocks(operand) for operand in operands):
        return None
    x, y = operands
    macs = math.prod(size_hint(s) for s in (*shape_of(node), shape_of(x)[-1]))
    is_linear = is_call(node, _A.linear.default)
    # Of y, the columns; of a linear's second operand, which lies the other way, the rows.
    reason = _why_not(module, x, len(shape_of(x)) - 2) or _why_not(module, y, 0 if is_linear else len(shape_of(y)) - 1)
    if reason:
        return Refusal(record(node, macs, reason))
    made = record(node, macs)
    finish(node, _rewrite(module, node, x, y), made.node)
    return Lowered(made)


def keep_lowered_matmul(module: GraphModule, node: Node) -> Lowered | None:
    """Counts a product that is int8 already, as in a lowered model that is lowered again."""
    if not is_call(node, int8_matmul):
        return None
    sizes = (*shape_of(node), shape_of(arguments(node)["x"])[-1])
    return Lowered(record(node, math.prod(size_hint(size) for size in sizes)))


def _operands(module: GraphModule, node: Node) -> tuple[Node, Node] | None:
    """Both operands of a matmul, or of a linear whose weight is no constant."""
    given = arguments(node) if is_call(node, _A.matmul.default, _A.linear.default) else {}
    if is_call(node, _A.matmul.default):
        return given["self"], given["other"]
    if not given or not is_dequantize(given["weight"]):
        return None
    is_constant = constant_of(module, given["weight"].args[0]) is not None
    return None if is_constant else (given["input"], given["weight"])


def _why_not(module: GraphModule, operand: Node, kept: int) -> str:
    """Why an operand does not become one of an integer product, "" if it does; `kept` is the dim that is not summed."""
    if not is_dequantize(operand):
        blocks = "an activation is quantized in blocks that are neither the whole tensor nor its rows"
        return blocks if in_blocks(operand) else "only one operand of the product is quantized"
    if len(shape_of(operand)) < 2:
        return "an operand of the product is a vector"
    qparams = qparams_of(module, operand)
    if not qparams.is_static:
        return "the scale of an activation is known only at run time"
    if qparams.dtype not in _BYTES:
        return f"an operand of the product is {qparams.dtype}, no 8-bit integer"
    if qparams.axis not in (None, kept):
        return f"an operand is quantized along axis {qparams.axis}, so its scales cannot leave the sum"
    if qparams.axis is not None and bool(torch.as_tensor(qparams.zero_point).any()):
        return "an operand of the product has a zero point for each of its rows or columns"
    return ""


def _rewrite(module: GraphModule, node: Node, x: Node, y: Node) -> Node:
    first, second = qparams_of(module, x), qparams_of(module, y)
    scale = (_along(first, [-1, 1]) * _along(second, [-1])).to(torch.float32)
    right = y.args[0]
    if is_call(node, _A.linear.default):
        right = insert(node, _A.permute.default, (right, [1, 0]), like=node)
    parameters = {
        "x_zero_point": _zero_point(first),
        "y_zero_point": _zero_point(second),
        "scale": insert_constant(module, node, scale, "_scale"),
    }
    result = insert(node, int8_matmul, (x.args[0], right), parameters, like=node)
    given: Any = arguments(node).get("bias")
    bias = as_float32(module, node, given)
    return result if bias is None else insert(node, _A.add.Tensor, (result, bias), like=node)


def _along(qparams: QParams, shape: list[int]) -> Tensor:
    """The scale or the scales in float64, along their dim of the result."""
    scale = torch.as_tensor(qparams.scale, dtype=torch.float64)
    return scale.reshape(shape) if qparams.axis is not None else scale.reshape(1)


def _zero_point(qparams: QParams) -> int:
    """That of all of the tensor; those of rows or columns are 0."""
    return qparams.zero_point if isinstance(qparams.zero_point, int) else 0
