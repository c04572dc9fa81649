"""ATen's elementwise operators in one table: `pointwise_of` says how to compute a node, or that nobody knows.

What is not in the table, or is not covered by its entry's condition, or has a dtype that programs do not hold, is
foreign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from ..errors import GraphError
from ..graph.qparams import is_plain_quantize, is_whole_dequantize
from ..ops.quantize import quantize, quantize_static
from .activations import ACTIVATIONS
from .arithmetic import ARITHMETIC
from .choices import CHOICES
from .constructors import CONSTRUCTORS
from .division import DIVISION
from .emission import Emission, Space
from .gathers import GATHERS
from .magnitude import LARGEST_STEP, bound_of
from .scalars import At, Elementwise, Emit
from .symbols import DTYPE_NAMES, to_size
from .trigonometry import TRIGONOMETRY

POINTWISE: Mapping[Any, Elementwise] = {
    **ARITHMETIC, **DIVISION, **TRIGONOMETRY, **CHOICES, **ACTIVATIONS, **CONSTRUCTORS, **GATHERS,
}  # fmt: skip


def pointwise_of(node: Node) -> Emit | None:
    """How to compute `node` element by element, or None if that is not known for this operator and these dtypes."""
    if node.op != "call_function" or not _is_held(node):
        return None
    if is_plain_quantize(node) or node.target is quantize_static:
        return _quantize
    if node.target is quantize:
        return _quantize_dynamic
    if is_whole_dequantize(node):
        return _dequantize
    known = POINTWISE.get(node.target)
    return known.emit if known is not None and known.when.holds(node) else None


def _is_held(node: Node) -> bool:
    """Whether programs hold the result and the operands: tensors of known dtypes, sizes known at the call."""
    values = [node.meta.get("val"), *(n.meta.get("val") for n in node.all_input_nodes)]
    return isinstance(values[0], torch.Tensor) and all(_is_known(value) for value in values)


def _is_known(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dtype in DTYPE_NAMES
    if not isinstance(value, torch.SymInt):
        return False
    try:
        to_size(value)
    except GraphError:
        return False
    return True


_WHOLE = {"u8": (0, 255), "i8": (-128, 127)}


def _quantize(e: Emission, node: Node, space: Space) -> int:
    at = At(e, node, space)
    x = at("input", "f32").node
    low, high = at.number("quant_min"), at.number("quant_max")
    zero, factor = at.number("zero_point"), 1.0 / at.number("scale")
    inverse = _number(e, factor, 1.0)
    usual = _WHOLE.get(at.dtype) == (low, high) and low <= zero <= high
    if not usual or bound_of(e, x) * factor + abs(zero) > LARGEST_STEP:
        numbers = [e.param("f32", number) for number in (zero, low, high)]
        return e.call("quantize", x, inverse, *numbers, dtype=at.dtype)
    if at.dtype == "u8" and zero == 0:
        x = _before_relu(e, x)  # what is below 0 becomes 0 anyway
    return e.call("quantize_bounded", x, inverse, _number(e, zero, 0, "i32"), dtype=at.dtype)


def _number(e: Emission, value: float, usual: float, dtype: str = "f32") -> int:
    """A number that the step gives, but the usual one as part of the code, which is worth code of its own.

    Scales are 1 in most of what contractions give and take, zero points are 0 after a relu.
    """
    return e.const(dtype, usual) if value == usual else e.param(dtype, value)


def _before_relu(e: Emission, x: int) -> int:
    node = e.body.nodes[x]
    if node.op != "max":
        return x
    first, second = (e.body.nodes[a] for a in node.args)
    return node.args[0] if second.op == "const" and second.attrs == (0.0,) and first.dtype == "f32" else x


def _quantize_dynamic(e: Emission, node: Node, space: Space) -> int:
    at = At(e, node, space)
    operands = [at(name, "f32").node for name in ("x", "inverse_scale", "zero_point")]
    limits = [e.param("f32", at.number(name)) for name in ("low", "high")]
    return e.call("quantize", *operands, *limits, dtype=at.dtype)


def _dequantize(e: Emission, node: Node, space: Space) -> int:
    at = At(e, node, space)
    numbers = [_number(e, at.number(name), usual) for name, usual in (("scale", 1.0), ("zero_point", 0.0))]
    return e.call("dequantize", at.own("input").node, *numbers, dtype="f32")
