"""ATen's pointwise operators as expressions, in one visible table.

Each entry gives the body node of an FX node from its operands. What is not in the table, or has a dtype that programs
do not hold, is foreign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..graph.qparams import is_plain_dequantize, is_plain_quantize
from ..ops.quantize import quantize
from .emission import Emission, Space
from .gathers import GATHERS, is_leading_index
from .symbols import DTYPE_NAMES

_A = torch.ops.aten
Emit = Callable[[Emission, Node, Space], int]


def _result(node: Node) -> str:
    return DTYPE_NAMES[node.meta["val"].dtype]


def _example(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, Node) else argument


def _promoted(*operands: Any) -> str:
    """The dtype in which PyTorch computes on these operands together."""
    first, second = (_example(o) for o in operands)
    return DTYPE_NAMES[torch.result_type(first, second)]


def _unary(op: str) -> Emit:
    """The operation on a float operand of the result's dtype."""

    def emit(e: Emission, node: Node, space: Space) -> int:
        return e.call(op, e.operand(node.args[0], _result(node), space))

    return emit


def _float_unary(op: str) -> Emit:
    return _unary(op)


def _binary(op: str) -> Emit:
    def emit(e: Emission, node: Node, space: Space) -> int:
        given = arguments(node)
        dtype = _result(node)
        left, right = (e.operand(given[name], dtype, space) for name in ("self", "other"))
        alpha = given.get("alpha", 1)
        if alpha != 1:
            right = e.call("mul", right, e.const(dtype, alpha))
        return e.call(op, left, right)

    return emit


def _rsub(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    taken = e.operand(given["self"], dtype, space)
    if given["alpha"] != 1:
        taken = e.call("mul", taken, e.const(dtype, given["alpha"]))
    return e.call("sub", e.operand(given["other"], dtype, space), taken)


def _compare(op: str) -> Emit:
    def emit(e: Emission, node: Node, space: Space) -> int:
        given = arguments(node)
        dtype = _promoted(given["self"], given["other"])
        return e.call(op, *(e.operand(given[name], dtype, space) for name in ("self", "other")), dtype="bool")

    return emit


def _logical(op: str) -> Emit:
    def emit(e: Emission, node: Node, space: Space) -> int:
        given = arguments(node)
        return e.call(op, *(e.operand(given[name], "bool", space) for name in ("self", "other")))

    return emit


def _logical_not(e: Emission, node: Node, space: Space) -> int:
    return e.call("not", e.operand(node.args[0], "bool", space))


def _where(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    condition = e.operand(given["condition"], "bool", space)
    return e.call("select", condition, *(e.operand(given[n], dtype, space) for n in ("self", "other")), dtype=dtype)


def _masked_fill(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    mask = e.operand(given["mask"], "bool", space)
    return e.call(
        "select", mask, e.operand(given["value"], dtype, space), e.operand(given["self"], dtype, space), dtype=dtype
    )


def _cast(e: Emission, node: Node, space: Space) -> int:
    return e.operand(node.args[0], _result(node), space)


def _clamp(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    x = e.operand(given["self"], dtype, space)
    low, high = given.get("min", given.get("min_val")), given.get("max", given.get("max_val"))
    if low is not None:
        x = e.call("max", x, e.operand(low, dtype, space))
    return x if high is None else e.call("min", x, e.operand(high, dtype, space))


def _relu(e: Emission, node: Node, space: Space) -> int:
    dtype = _result(node)
    return e.call("max", e.operand(node.args[0], dtype, space), e.const(dtype, 0))


def _relu6(e: Emission, node: Node, space: Space) -> int:
    dtype = _result(node)
    positive = e.call("max", e.operand(node.args[0], dtype, space), e.const(dtype, 0))
    return e.call("min", positive, e.const(dtype, 6))


def _gelu(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    op = "gelu_tanh" if given["approximate"] == "tanh" else "gelu"
    return e.call(op, e.operand(given["self"], "f32", space))


def _pow(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    x, exponent = e.operand(given["self"], dtype, space), given["exponent"]
    if exponent == 2:
        return e.call("mul", x, x)
    if exponent == 3:
        return e.call("mul", e.call("mul", x, x), x)
    if exponent == 1:
        return x
    root = e.call("sqrt", x)
    return root if exponent == 0.5 else e.call("div", e.const(dtype, 1), root)


def _reciprocal(e: Emission, node: Node, space: Space) -> int:
    dtype = _result(node)
    return e.call("div", e.const(dtype, 1), e.operand(node.args[0], dtype, space))


def _isnan(e: Emission, node: Node, space: Space) -> int:
    x = e.read(node.args[0], space)  # type: ignore[arg-type]
    return e.call("ne", x, x, dtype="bool")


def _full(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    name = str(getattr(node.target, "_schema", "")).split("(")[0]
    value = 1 if "ones" in name else given.get("fill_value", given.get("s", 0))
    return e.const(_result(node), value)


def _arange(e: Emission, node: Node, space: Space) -> int:
    given, dtype = arguments(node), _result(node)
    (position,) = space.positions
    index = e.const("i64", 0) if position is None else e.body.add("index", (), "i64", (position,))
    step, start = given.get("step", 1), given.get("start", 0)
    if step != 1:
        index = e.call("mul", index, e.const("i64", step))
    if start != 0:
        index = e.call("add", index, e.const("i64", start))
    return e.cast(index, dtype)


def _quantize(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    x = e.operand(given["input"], "f32", space)
    inverse = e.param("f32", 1.0 / given["scale"])
    numbers = [e.param("f32", given[n]) for n in ("zero_point", "quant_min", "quant_max")]
    return e.call("quantize", x, inverse, *numbers, dtype=_result(node))


def _quantize_dynamic(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    operands = [e.operand(given[name], "f32", space) for name in ("x", "inverse_scale", "zero_point")]
    limits = [e.param("f32", given[name]) for name in ("low", "high")]
    return e.call("quantize", *operands, *limits, dtype=_result(node))


def _dequantize(e: Emission, node: Node, space: Space) -> int:
    given = arguments(node)
    q = e.read(given["input"], space)
    return e.call("dequantize", q, e.param("f32", given["scale"]), e.param("f32", given["zero_point"]), dtype="f32")


def _square(e: Emission, node: Node, space: Space) -> int:
    x = e.operand(node.args[0], _result(node), space)
    return e.call("mul", x, x)


_TABLE: Mapping[Any, Emit] = {
    **{getattr(_A, name).default: _float_unary(op) for name, op in {
        "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "erf": "erf", "tanh": "tanh",
        "sigmoid": "sigmoid", "silu": "silu", "sqrt": "sqrt", "neg": "neg", "abs": "abs",
        "round": "rint", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rsqrt": "rsqrt",
    }.items()},
    _A.add.Tensor: _binary("add"), _A.add.Scalar: _binary("add"),
    _A.sub.Tensor: _binary("sub"), _A.sub.Scalar: _binary("sub"),
    _A.rsub.Tensor: _rsub, _A.rsub.Scalar: _rsub,
    _A.mul.Tensor: _binary("mul"), _A.mul.Scalar: _binary("mul"),
    _A.div.Tensor: _binary("div"), _A.div.Scalar: _binary("div"), _A.true_divide.Tensor: _binary("div"),
    _A.maximum.default: _binary("max"), _A.minimum.default: _binary("min"),
    **{getattr(getattr(_A, name), kind): _compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
       for kind in ("Tensor", "Scalar")},
    _A.logical_and.default: _logical("and"), _A.logical_or.default: _logical("or"),
    _A.logical_xor.default: _logical("xor"), _A.logical_not.default: _logical_not,
    **{getattr(_A, name).Tensor: _binary(op) for name, op in {
        "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "__and__": "and", "__or__": "or", "__xor__": "xor"}.items()},
    **{getattr(_A, name).Scalar: _binary(op) for name, op in {
        "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "__and__": "and", "__or__": "or", "__xor__": "xor"}.items()},
    _A.bitwise_not.default: _unary("not"),
    _A.where.self: _where, _A.where.ScalarOther: _where, _A.where.ScalarSelf: _where, _A.where.Scalar: _where,
    _A.masked_fill.Scalar: _masked_fill, _A.masked_fill.Tensor: _masked_fill,
    _A._to_copy.default: _cast, _A.to.dtype: _cast,
    _A.clamp.default: _clamp, _A.clamp.Tensor: _clamp, _A.clamp_min.default: _clamp, _A.clamp_max.default: _clamp,
    _A.hardtanh.default: _clamp, _A.relu.default: _relu, _A.relu6.default: _relu6, _A.gelu.default: _gelu,
    _A.pow.Tensor_Scalar: _pow, _A.square.default: _square, _A.reciprocal.default: _reciprocal,
    _A.isnan.default: _isnan,
    _A.full.default: _full, _A.full_like.default: _full, _A.ones.default: _full, _A.zeros.default: _full,
    _A.ones_like.default: _full, _A.zeros_like.default: _full, _A.new_ones.default: _full, _A.new_zeros.default: _full,
    _A.new_full.default: _full, _A.scalar_tensor.default: _full,
    _A.arange.default: _arange, _A.arange.start: _arange, _A.arange.start_step: _arange,
    **GATHERS,
}  # fmt: skip


def pointwise_of(node: Node) -> Emit | None:
    """How to compute `node` element by element, or None if that is not known for this operator and these dtypes."""
    if node.op != "call_function" or not _dtypes_are_known(node):
        return None
    if is_plain_quantize(node):
        return _quantize
    if node.target is quantize:
        return _quantize_dynamic
    if is_plain_dequantize(node):
        return _dequantize
    emit = _TABLE.get(node.target)
    return emit if emit is not None and _is_covered(node) else None


def _dtypes_are_known(node: Node) -> bool:
    result = node.meta.get("val")
    values = [result, *(n.meta.get("val") for n in node.all_input_nodes)]
    tensors = [value for value in values if not isinstance(value, torch.SymInt)]  # a size is no operand
    return isinstance(result, torch.Tensor) and all(
        isinstance(value, torch.Tensor) and value.dtype in DTYPE_NAMES for value in tensors
    )


_FLOAT32_ONLY = ("exp", "expm1", "log", "log1p", "erf", "tanh", "sigmoid", "silu", "gelu", "rsqrt")


def _is_covered(node: Node) -> bool:
    """Cases of listed operators that are not: other float types, odd powers, integer division and rounding."""
    name = str(node.target._schema.name).removeprefix("aten::")  # type: ignore[union-attr]
    given, dtype = arguments(node), node.meta["val"].dtype
    if name in _FLOAT32_ONLY and dtype != torch.float32:
        return False
    if name == "index":
        return is_leading_index(node)
    if name == "pow":
        return dtype.is_floating_point and given["exponent"] in (-0.5, 0.5, 1, 2, 3)
    if name in ("div", "true_divide", "sqrt", "reciprocal"):
        return bool(dtype.is_floating_point)
    if name in ("round", "neg", "abs", "bitwise_not") and dtype == torch.uint8:
        return name == "bitwise_not"
    if name == "arange":
        numbers = [given.get(key, 0) for key in ("start", "end", "step")]
        return all(isinstance(n, (int, torch.SymInt, Node)) for n in numbers) and isinstance(given.get("start", 0), int)
    if name in ("full", "full_like", "new_full", "scalar_tensor"):
        value = given.get("fill_value", given.get("s", 0))
        return isinstance(value, (int, float, bool)) and not (isinstance(value, float) and math.isnan(value))
    scalars = [v for v in given.values() if isinstance(v, Node) and not isinstance(v.meta.get("val"), torch.Tensor)]
    return not scalars
