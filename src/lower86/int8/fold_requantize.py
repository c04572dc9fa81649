"""What is quantized right after a contraction is counted in the quantization's own steps from the start.

    quantize(relu(int8_conv(x, w, bias, scale) + dequantize(r, t)), s)
        ->  quantize(relu(int8_conv(x, w, bias / s, scale / s) + t / s * dequantize(r, 1)), 1)

Two multiplications an element less, and two roundings, as that product is an `alpha` of the sum: a result can differ
from the model's where that lies within a last bit of the middle between two steps. Only where nothing else reads what
is scaled, and all of it is scaled alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32
from ..graph.edit import constant_of, insert_constant
from ..graph.qparams import is_plain_quantize, is_whole_dequantize
from ..ops.conv import int8_conv
from ..ops.linear import int8_linear
from ..ops.matmul import int8_matmul

_A = torch.ops.aten
_CONTRACTIONS = (int8_conv, int8_linear, int8_matmul)
_BOUNDS = ("min", "max")


def fold_requantize(module: GraphModule) -> None:
    """Folds the scale of every quantize that can take part into what it quantizes."""
    for node in list(module.graph.nodes):
        if is_plain_quantize(node) and arguments(node)["scale"] != 1:
            given = arguments(node)
            parts = list(_scaled_by(module, given["input"], 1.0 / given["scale"]) or ())
            if any(is_call(part, *_CONTRACTIONS) for part in parts):
                for part in parts:
                    _scale(module, part, 1.0 / given["scale"])
                _set(node, "scale", 1.0)
                for part in parts:
                    _put_in_sum(part)


def _scaled_by(module: GraphModule, node: Any, factor: float) -> list[Node] | None:
    """The nodes to change so that `node` is scaled by the factor; None if there is no way."""
    if not isinstance(node, Node) or len(node.users) != 1 or not is_float32(node):
        return None
    if is_call(node, *_CONTRACTIONS):
        given = arguments(node)
        constants = [constant_of(module, given[name]) for name in ("scale", "bias") if given.get(name) is not None]
        return [node] if all(c is not None and _keeps_its_digits(c, factor) for c in constants) else None
    if is_whole_dequantize(node):
        return [node] if _keeps_its_digits(torch.tensor(arguments(node)["scale"]), factor) else None
    if is_call(node, _A.relu.default):
        return _scaled_by(module, node.args[0], factor)
    if is_call(node, _A.clamp.default):
        below = _scaled_by(module, node.args[0], factor)
        known = not any(isinstance(arguments(node)[name], Node) for name in _BOUNDS)
        return [*below, node] if below is not None and known else None
    if is_call(node, _A.add.Tensor) and arguments(node)["alpha"] == 1 and node.args[0] is not node.args[1]:
        parts = [_scaled_by(module, operand, factor) for operand in node.args[:2]]
        return None if any(part is None for part in parts) else [n for part in parts for n in part or ()]
    return None


def _keeps_its_digits(numbers: torch.Tensor, factor: float) -> bool:
    """Whether the numbers, scaled, are far from where float32 ends and from where it has fewer digits."""
    scaled = (numbers.double() * factor).abs()
    return bool(((scaled == 0) | ((scaled > 1e-30) & (scaled < 1e30))).all()) and 1e-30 < factor < 1e30


def _scale(module: GraphModule, node: Node, factor: float) -> None:
    """Multiplies what the node's result is proportional to."""
    for name, value in _scalable(node):
        if isinstance(value, Node):
            tensor = constant_of(module, value)
            assert tensor is not None
            scaled = (tensor.double() * factor).float()
            _set(node, name, insert_constant(module, node, scaled, f"_{name}"))
        else:
            _set(node, name, value * factor)


def _put_in_sum(dequantize: Node) -> None:
    """Has the sum that reads a dequantize multiply by its scale, as one operation."""
    (reader,) = dequantize.users
    if is_whole_dequantize(dequantize) and is_call(reader, _A.add.Tensor) and arguments(reader)["alpha"] == 1:
        (other,) = [operand for operand in reader.args[:2] if operand is not dequantize]
        reader.args = (other, dequantize)
        reader.kwargs = {"alpha": arguments(dequantize)["scale"]}
        _set(dequantize, "scale", 1.0)


def _scalable(node: Node) -> Iterator[tuple[str, Any]]:
    """The arguments by which the result scales, by name."""
    given = arguments(node)
    names = ("scale", "bias") if is_call(node, *_CONTRACTIONS) else ("scale", *_BOUNDS)
    yield from ((name, given[name]) for name in names if given.get(name) is not None)


def _set(node: Node, name: str, value: Any) -> None:
    """Gives the argument of this name, wherever it stands, another value."""
    assert isinstance(node.target, torch._ops.OpOverload)
    names = [parameter.name for parameter in node.target._schema.arguments if not parameter.kwarg_only]
    position = names.index(name) if name in names else len(node.args)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)
