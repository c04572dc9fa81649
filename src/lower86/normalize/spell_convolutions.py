"""Every convolution is `convolution`, batched, with padding in numbers.

conv2d(x, w, b, stride, padding, …)    ->  convolution(x, w, b, stride, padding, dilation, False, 0, groups)
conv2d(x, w, b, …, "same", …)          ->  convolution of x, padded on one side more where that is odd
conv_transpose2d(x, w, b, …)           ->  convolution(x, w, b, …, True, output_padding, groups)
conv2d of an x without a batch dim     ->  reshape(convolution(reshape(x, [1, …]), …))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, shape_of
from ..graph.edit import insert, replace
from .shapes import sizes_of

_A = torch.ops.aten
CONVOLUTIONS: Mapping[Any, int] = {
    _A.conv1d.default: 1, _A.conv2d.default: 2, _A.conv3d.default: 3,
    _A.conv1d.padding: 1, _A.conv2d.padding: 2, _A.conv3d.padding: 3,
    _A.conv_transpose1d.default: 1, _A.conv_transpose2d.input: 2, _A.conv_transpose3d.input: 3,
}  # fmt: skip
"""Operators, and over how many spatial dims they run."""


def spell_convolutions(module: GraphModule) -> None:
    """Rewrites every convolution."""
    for node in list(module.graph.nodes):
        if is_call(node, *CONVOLUTIONS):
            replace(node, _spelled(node, CONVOLUTIONS[node.target]))
        elif is_call(node, _A.convolution.default):
            node.args = (*node.args[:3], *_options(node, len(shape_of(node)) - 2), *node.args[8:])


def _options(node: Node, dims: int) -> tuple[Any, ...]:
    given = arguments(node)
    names = ("stride", "padding", "dilation")
    stride, padding, dilation = (_each(given[name], dims) for name in names)
    return stride, padding, dilation, given.get("transposed", False), _each(given.get("output_padding", 0), dims)


def _spelled(node: Node, dims: int) -> Node:
    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    given = arguments(node)
    x, weight = given["input"], given["weight"]
    batched = len(shape_of(x)) == dims + 2
    if not batched:
        x = call(_A.reshape.default, x, [1, *sizes_of(node, x)])
    stride, dilation = (_each(given[name], dims) for name in ("stride", "dilation"))
    padding = given["padding"]
    if padding == "same":
        total = [step * (taps - 1) for step, taps in zip(dilation, shape_of(weight)[2:], strict=True)]
        padding = [pads // 2 for pads in total]
        more = [number for pads in reversed(total) for number in (0, pads % 2)]
        if any(more):
            x = call(_A.constant_pad_nd.default, x, more, 0)
    padding = _each(0 if padding == "valid" else padding, dims)
    transposed = "output_padding" in given
    extra = _each(given.get("output_padding", 0), dims)
    options = (stride, padding, dilation, transposed, extra, given["groups"])
    result = call(_A.convolution.default, x, weight, given["bias"], *options)
    return result if batched else call(_A.reshape.default, result, sizes_of(node, result)[1:])


def _each(value: Any, dims: int) -> list[int]:
    """One number for each spatial dim."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return numbers * dims if len(numbers) == 1 else numbers
