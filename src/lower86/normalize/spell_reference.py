"""torchao's reference representation, which spells quantization as arithmetic, in the spellings that the rules know.

    int8(clamp(int32(round(x / s)) + z, low, high))               ->  quantize_per_tensor(x, s, z, low, high)
    (float(clamp(q, low, high)) - z) · s                          ->  dequantize_per_tensor(q, s, z, low, high)
    transpose(float(int32(transpose(clamp(w, …))) - z) · s)       ->  dequantize_per_channel(w, s, z, axis, low, high)
    out_dtype(linear, int32, int16(q) - z, int16(w) - v, None)    ->  int32(linear(dequantize(q), dequantize(w)))
    out_dtype(mul, int32, a, b)                                   ->  int32(a · b)

There the scales are 1, so the linear's sums are integers, as float32 holds them: exact up to 2²⁴, and rounded to 24
bits beyond, as the multiplication that follows rounds them in PyTorch. What quantizes multiplies by 1 / s in place of
dividing, as everywhere: a value between two integers may fall to the other.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..graph.edit import constant_of, insert, replace
from ..graph.qparams import is_plain_quantize, overloads

_A = torch.ops.aten
_BYTES = (torch.int8, torch.uint8)
_POINTWISE = (_A.mul.Tensor, _A.div.Tensor, _A.add.Tensor, _A.sub.Tensor)
_CONTRACTIONS = {_A.linear.default: 2, _A.convolution.default: 2}
"""The place of the bias."""


def spell_reference(module: GraphModule) -> None:
    """Rewrites quantization, then dequantization, then what has a dtype for its result."""
    if not any(_has_bytes(node) for node in module.graph.nodes):
        return
    # A file in this representation needs nobody who registers the operators that it is spelled in here.
    importlib.import_module("torch.ao.quantization.fx._decomposed")
    for node in list(module.graph.nodes):
        _spell_quantize(node)
    for node in list(module.graph.nodes):
        _spell_dequantize(node)
        _spell_channels(module, node)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is torch.ops.higher_order.out_dtype:
            _spell_contraction(node) if node.args[0] in _CONTRACTIONS else _spell_pointwise(node)


def _has_bytes(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor) and tensor_of(node).dtype in _BYTES


@dataclass(frozen=True)
class _Integers:
    """A tensor of bytes, and the limits that its values keep within."""

    node: Node
    low: int
    high: int

    @property
    def dtype(self) -> torch.dtype:
        return tensor_of(self.node).dtype


def _cast(node: object, *dtypes: torch.dtype) -> Any:
    """What the node casts to one of the dtypes, or None."""
    if not isinstance(node, Node) or not is_call(node, _A._to_copy.default) or tensor_of(node).dtype not in dtypes:
        return None
    return node.args[0]


def _clamped(node: object) -> tuple[Node, int, int] | None:
    if not is_call(node, _A.clamp.default):
        return None
    assert isinstance(node, Node)
    given = arguments(node)
    low, high = given["min"], given["max"]
    if not (isinstance(low, int) and isinstance(high, int)):
        return None
    source = given["self"]
    assert isinstance(source, Node)
    return source, low, high


def _integers(node: object) -> _Integers | None:
    """Bytes, without a clamp that changes nothing."""
    if not isinstance(node, Node) or not _has_bytes(node):
        return None
    info = torch.iinfo(tensor_of(node).dtype)
    found = _clamped(node)
    if found is None:
        return _Integers(node, info.min, info.max)
    source, low, high = found
    low, high = max(low, info.min), min(high, info.max)
    have = (info.min, info.max)
    if is_plain_quantize(source):
        have = tuple(arguments(source)[name] for name in ("quant_min", "quant_max"))
    keeps = low <= have[0] and have[1] <= high
    return _Integers(source if keeps else node, low, high)


def _difference(node: object) -> tuple[Any, Any] | None:
    """The operands of a plain subtraction."""
    if not is_call(node, _A.sub.Tensor):
        return None
    assert isinstance(node, Node)
    given = arguments(node)
    return (given["self"], given["other"]) if given["alpha"] == 1 else None


def _spell_quantize(node: Node) -> None:
    found = _clamped(_cast(node, *_BYTES))
    if found is None:
        return
    total, low, high = found
    if not is_call(total, _A.add.Tensor) or arguments(total)["alpha"] != 1:
        return
    rounded, zero_point = _cast(total.args[0], torch.int32), total.args[1]
    if not (isinstance(zero_point, int) and is_call(rounded, _A.round.default)):
        return
    quotient = rounded.args[0]
    if not is_call(quotient, _A.div.Tensor):
        return
    x, scale = quotient.args
    dtype = tensor_of(node).dtype
    info = torch.iinfo(dtype)
    if not (isinstance(x, Node) and isinstance(scale, float) and scale > 0 and tensor_of(x).dtype == torch.float32):
        return
    if not info.min <= low <= high <= info.max:
        return
    (target,) = overloads("quantize_per_tensor.default")
    replace(node, insert(node, target, (x, scale, zero_point, low, high, dtype), like=node, value=node.meta["val"]))


def _spell_dequantize(node: Node) -> None:
    if not is_call(node, _A.mul.Tensor):
        return
    difference, scale = _difference(node.args[0]), node.args[1]
    if difference is None or not isinstance(scale, float):
        return
    q, zero_point = _integers(_cast(difference[0], torch.float32)), difference[1]
    if q is not None and isinstance(zero_point, int):
        replace(node, _dequantized(node, q, scale, zero_point))


def _dequantized(node: Node, q: _Integers, scale: float, zero_point: int) -> Node:
    (target,) = overloads("dequantize_per_tensor.default")
    return insert(node, target, (q.node, scale, zero_point, q.low, q.high, q.dtype), like=node)


def _spell_channels(module: GraphModule, node: Node) -> None:
    if not is_call(node, _A.transpose.int) or not is_call(node.args[0], _A.mul.Tensor):
        return
    product: Any = node.args[0]
    real, scales = product.args
    difference = _difference(_cast(real, torch.float32))
    if difference is None:
        return
    moved, zero_points = _cast(difference[0], torch.int32), difference[1]
    if not is_call(moved, _A.transpose.int) or moved.args[1:] != node.args[1:]:
        return
    q, rank = _integers(moved.args[0]), tensor_of(node).dim()
    dims: Any = node.args[1:]
    axis, last = (dim % rank for dim in dims)
    if q is None or last != rank - 1:
        return
    constants = [constant_of(module, parameter) for parameter in (scales, zero_points)]
    size = tensor_of(q.node).shape[axis]
    if any(constant is None or tuple(constant.shape) != (size,) for constant in constants):
        return
    (target,) = overloads("dequantize_per_channel.default")
    operands = (q.node, scales, zero_points, axis, q.low, q.high, q.dtype)
    replace(node, insert(node, target, operands, like=node, value=node.meta["val"]))


def _spell_contraction(node: Node) -> None:
    given: Any = node.args
    target, dtype, *operands = given
    if dtype != torch.int32 or operands[_CONTRACTIONS[target]] is not None:
        return
    read = []
    for operand in operands[:2]:
        found = _difference(operand)
        q = _integers(_cast(found[0], torch.int16, torch.int32)) if found is not None else None
        if found is None or q is None or not isinstance(found[1], int):
            return
        read.append((q, found[1]))
    real = [_dequantized(node, q, 1.0, zero_point) for q, zero_point in read]
    total = insert(node, target, (*real, *operands[2:]), like=node)
    replace(node, insert(node, _A._to_copy.default, (total,), {"dtype": dtype}, like=node))


def _spell_pointwise(node: Node) -> None:
    target, dtype, *operands = node.args
    if target not in _POINTWISE or not isinstance(dtype, torch.dtype):
        return
    values = [operand.meta["val"] if isinstance(operand, Node) else operand for operand in operands]
    # `torch.result_type`, the public one, knows no computation dtype of 16-bit floats; test_spell_reference.py tells.
    kind = ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT
    common, _ = elementwise_dtypes(*values, torch.ones(1, dtype=dtype), type_promotion_kind=kind)

    def cast(operand: Any, wanted: torch.dtype) -> Any:
        if not isinstance(operand, Node) or tensor_of(operand).dtype == wanted:
            return operand
        return insert(node, _A._to_copy.default, (operand,), {"dtype": wanted}, like=node)

    result = insert(node, target, [cast(operand, common) for operand in operands], like=node)
    replace(node, cast(result, dtype))
