"""Adaptive pools: so many outputs, whatever the size. Part of `spell_pools`.

    adaptive_avg_pool(x, 1)     ->  mean(x)
    adaptive_avg_pool(x, n)     ->  mean of blocks, where n divides the size
                                    else cat(mean(slice), mean(slice), …), one dim after the other
    adaptive_max_pool           ->  likewise, with amax; of integers, as integers

Output i of n takes the elements from floor(i · size / n) to ceil((i + 1) · size / n).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, shape_of, tensor_of
from ..graph.edit import insert
from ..graph.qparams import is_whole_dequantize
from .precision import as_dtype, widened

_A = torch.ops.aten
_MOST_PARTS = 64


def _adaptive(dims: int, reduce: Any) -> Callable[[GraphModule, Node], Node | None]:
    def spell(module: GraphModule, node: Node) -> Node | None:
        def call(target: Any, *args: Any) -> Node:
            return insert(node, target, args, like=node)

        given = arguments(node)
        x, wanted = given["self"], given["output_size"]
        wanted = [wanted] if isinstance(wanted, int) else list(wanted)
        if reduce is not _A.amax.default:
            return _averaged(call, node, x, wanted) if tensor_of(x).is_floating_point() else None
        if not is_whole_dequantize(x):
            return _pooled(call, x, wanted, reduce)
        integers = _pooled(call, x.args[0], wanted, reduce)
        if integers is None:
            return None
        return insert(node, x.target, (integers, *x.args[1:]), dict(x.kwargs), like=x)

    return spell


def _averaged(call: Callable[..., Node], node: Node, x: Node, wanted: Sequence[Any]) -> Node | None:
    """Rounded once, where means of means are taken."""
    sizes = shape_of(x)[-len(wanted) :]
    even = all(isinstance(size, int) and size % count == 0 for size, count in zip(sizes, wanted, strict=True))
    at_once = even or all(count == 1 for count in wanted)
    mean = _pooled(call, x if at_once else widened(node, x), wanted, _MEAN)
    return None if mean is None else as_dtype(node, mean, tensor_of(x).dtype)


def _pooled(call: Callable[..., Node], x: Node, wanted: Sequence[Any], reduce: Any) -> Node | None:
    dims = len(wanted)
    sizes, last = shape_of(x)[-dims:], list(range(-dims, 0))
    if all(count == 1 for count in wanted):
        return call(reduce, x, last, True)
    if not all(isinstance(size, int) for size in (*sizes, *wanted)) or max(wanted) > _MOST_PARTS:
        return None
    first = len(shape_of(x)) - dims
    if all(size % count == 0 for size, count in zip(sizes, wanted, strict=True)):
        for i, (size, count) in enumerate(zip(sizes, wanted, strict=True)):
            x = call(_A.unfold.default, x, first + i, size // count, size // count)
        return call(reduce, x, last)
    for dim, (size, count) in enumerate(zip(sizes, wanted, strict=True), start=first):
        bounds = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        parts = [call(_A.slice.Tensor, x, dim, start, end) for start, end in bounds]
        x = call(_A.cat.default, [call(reduce, part, [dim], True) for part in parts], dim)
    return x


_MEAN, _MAX = _A.mean.dim, _A.amax.default
ADAPTIVE_POOLS: Mapping[Any, tuple[int, Callable[[GraphModule, Node], Node | None]]] = {
    _A.adaptive_avg_pool1d.default: (1, _adaptive(1, _MEAN)),
    _A.adaptive_avg_pool2d.default: (2, _adaptive(2, _MEAN)),
    _A.adaptive_avg_pool3d.default: (3, _adaptive(3, _MEAN)),
    _A._adaptive_avg_pool2d.default: (2, _adaptive(2, _MEAN)),
    _A._adaptive_avg_pool3d.default: (3, _adaptive(3, _MEAN)),
    _A.adaptive_max_pool2d.default: (2, _adaptive(2, _MAX)),
    _A.adaptive_max_pool3d.default: (3, _adaptive(3, _MAX)),
}
"""Over how many dims each runs, and how it is spelled."""
