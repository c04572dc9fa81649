"""Functions that models write out as arithmetic are the operators that one kernel computes.

x · rsqrt(mean(x², -1) + eps)                              ->  rms_norm(x, [n], None, eps)       x: [..., n]
w · rms_norm(x, [n], None, eps)                            ->  rms_norm(x, [n], w, eps)          w: [n]
x · 0.5 · (tanh((x + x³ · 0.044715) · sqrt(2 / pi)) + 1)   ->  gelu(x, approximate="tanh")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32, shape_of
from ..graph.edit import insert, replace

_A = torch.ops.aten


def spell_written_functions(module: GraphModule) -> None:
    """Rewrites the products that end an RMS norm or a gelu."""
    for node in list(module.graph.nodes):
        if not is_call(node, _A.mul.Tensor) or not is_float32(node):
            continue
        for first, second in _pairs(node):
            made = _normed(node, first, second) or _weighted(node, first, second) or _gelu(node, first, second)
            if made is not None:
                replace(node, made)
                break


def _pairs(node: Node) -> Iterator[tuple[Any, Any]]:
    first, second = node.args[:2]
    yield first, second
    yield second, first


def _normed(node: Node, x: Any, factor: Any) -> Node | None:
    if not (isinstance(x, Node) and is_float32(x) and is_call(factor, _A.rsqrt.default)):
        return None
    mean, eps = _plus(factor.args[0])
    if not is_call(mean, _A.mean.dim) or not shape_of(x):
        return None
    given, width = arguments(mean), shape_of(x)[-1]
    last = [dim % len(shape_of(x)) for dim in given["dim"] or ()] == [len(shape_of(x)) - 1]
    if not last or not given["keepdim"] or given["dtype"] not in (None, torch.float32):
        return None
    if not isinstance(width, int) or not _is_power(given["self"], x, 2):
        return None
    return insert(node, _A.rms_norm.default, (x, [width], None, eps), like=node, value=node.meta["val"])


def _weighted(node: Node, weight: Any, norm: Any) -> Node | None:
    if not (is_call(norm, _A.rms_norm.default) and isinstance(weight, Node) and weight.op == "get_attr"):
        return None
    given = arguments(norm)
    if given["weight"] is not None or len(norm.users) != 1 or not is_float32(weight):
        return None
    if list(shape_of(weight)) != list(given["normalized_shape"]):
        return None
    operands = (given["input"], given["normalized_shape"], weight, given["eps"])
    return insert(node, _A.rms_norm.default, operands, like=node, value=node.meta["val"])


def _gelu(node: Node, half: Any, bell: Any) -> Node | None:
    x, factor = _times(half)
    tanh, one = _plus(bell)
    if not (isinstance(x, Node) and is_float32(x) and is_call(tanh, _A.tanh.default) and (factor, one) == (0.5, 1)):
        return None
    total, root = _times(tanh.args[0])
    if not is_call(total, _A.add.Tensor) or arguments(total)["alpha"] != 1 or not _near(root, math.sqrt(2 / math.pi)):
        return None
    for linear, rest in _pairs(total):
        cube, share = _times(rest)
        if linear is x and _near(share, 0.044715) and _is_power(cube, x, 3):
            return insert(node, _A.gelu.default, (x,), {"approximate": "tanh"}, like=node, value=node.meta["val"])
    return None


def _times(node: Any) -> tuple[Any, float]:
    """x and c of x · c."""
    return _with_number(node, _A.mul.Tensor, 1.0)


def _plus(node: Any) -> tuple[Any, float]:
    """x and c of x + c."""
    if is_call(node, _A.add.Tensor) and arguments(node)["alpha"] != 1:
        return node, 0.0
    return _with_number(node, _A.add.Tensor, 0.0)


def _with_number(node: Any, target: Any, neutral: float) -> tuple[Any, float]:
    if is_call(node, target):
        for x, number in _pairs(node):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                return x, float(number)
    return node, neutral


def _is_power(node: Any, x: Node, exponent: int) -> bool:
    if is_call(node, _A.pow.Tensor_Scalar):
        return node.args[0] is x and node.args[1] == exponent
    return exponent == 2 and is_call(node, _A.mul.Tensor) and node.args[0] is x and node.args[1] is x


def _near(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=1e-6)
