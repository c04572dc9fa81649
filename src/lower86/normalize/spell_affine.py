"""torchao's affine operators, whose blocks say which elements share a scale, in the spellings that the rules know.

    block = the whole tensor               ->  quantize_per_tensor, dequantize_per_tensor
    block = 1 along one axis of a weight   ->  dequantize_per_channel(w, …, axis)
    block = 1, …, 1, whole last dim        ->  lower86::quantize, dequantize_per_token: a scale for each row

Other blocks (groups within a dim) stay what they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, same_size, shape_of, tensor_of
from ..graph.edit import constant_of, insert, replace
from ..graph.qparams import operators
from ..ops.quantize import quantize
from .precision import NARROW
from .shapes import size_at

_A = torch.ops.aten
_QUANTIZE, _DEQUANTIZE = "torchao::quantize_affine", "torchao::dequantize_affine"


def spell_affine(module: GraphModule) -> None:
    """Rewrites affine quantization and dequantization of whole tensors, of a weight's channels, of rows."""
    for node in list(module.graph.nodes):
        # By name, so that nothing here needs torchao.
        name = node.target._schema.name if isinstance(node.target, torch._ops.OpOverload) else ""
        if name in (_QUANTIZE, _DEQUANTIZE):
            _spell(module, node, is_quantize=name == _QUANTIZE)


def _spell(module: GraphModule, node: Node, is_quantize: bool) -> None:
    given = arguments(node)
    source, shape = given["input"], shape_of(given["input"])
    dtype: torch.dtype = given["output_dtype" if is_quantize else "input_dtype"]
    separate = _separate_dims(given["block_size"], shape)
    if separate is None or dtype not in (torch.int8, torch.uint8) or tensor_of(source).dtype == torch.float64:
        return
    real = tensor_of(node).dtype
    if not is_quantize and real not in (torch.float32, *NARROW):
        return
    kwargs = {} if is_quantize or real == torch.float32 else {"out_dtype": real}
    limits = [_limit(given, name, dtype) for name in ("quant_min", "quant_max")]
    zero_point = given["zero_point"]
    if zero_point is None:
        zero_point = insert(node, _A.zeros_like.default, (given["scale"],), {"dtype": torch.int32}, like=node)

    def shaped(operand: Node, sizes: list[Any]) -> Node:
        return insert(node, _A.reshape.default, (operand, sizes), like=node)

    def call(target: Any, parameters: list[Node], *rest: Any, **kwargs: Any) -> None:
        replace(node, insert(node, target, (source, *parameters, *rest), kwargs, like=node, value=node.meta["val"]))

    both = [given["scale"], zero_point]
    constant = constant_of(module, source) is not None
    if not separate:
        packet = operators().quantize_per_tensor if is_quantize else operators().dequantize_per_tensor
        call(packet.tensor, [shaped(p, []) for p in both], *limits, dtype, **kwargs)
    elif len(separate) == 1 and constant and not is_quantize:
        (axis,) = separate
        parameters = [shaped(p, [size_at(node, source, axis)]) for p in both]
        call(operators().dequantize_per_channel.default, parameters, axis, *limits, dtype, **kwargs)
    elif separate == list(range(len(shape) - 1)):
        rows = [*(size_at(node, source, dim) for dim in separate), 1]
        scale, zero_point = (shaped(p, rows) for p in both)
        if is_quantize:
            inverse = insert(node, _A.reciprocal.default, (scale,), like=node)
            numbers = [
                insert(node, _A._to_copy.default, (p,), {"dtype": torch.float32}, like=node)
                for p in (inverse, zero_point)
            ]
            call(quantize, numbers, *limits, dtype)
        else:
            call(operators().dequantize_per_token.default, [scale, zero_point], *limits, dtype, real)


def _separate_dims(block: list[Any], shape: tuple[Any, ...]) -> list[int] | None:
    """The dims along which every index has a scale of its own; None if some dim is cut into groups."""
    sizes = [size.meta["val"] if isinstance(size, Node) else size for size in block]
    separate = []
    for dim, (size, extent) in enumerate(zip(sizes, shape, strict=True)):
        if same_size(size, extent) and not same_size(size, 1):
            continue
        if not same_size(size, 1):
            return None
        separate.append(dim)
    # A dim of size 1 is both; it belongs with the dims before the last, or it makes no difference.
    if all(same_size(shape[dim], 1) for dim in separate):
        return []
    return [dim for dim in separate if dim < len(shape) - 1 or not same_size(shape[dim], 1)]


def _limit(given: dict[str, Any], name: str, dtype: torch.dtype) -> int:
    value = given[name]
    if value is None:
        info = torch.iinfo(dtype)
        value = info.min if name == "quant_min" else info.max
    return int(value)
