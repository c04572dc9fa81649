"""Pools as reductions over windows, which are views; of integers, as integers.

    max_pool(x)                 ->  amax(windows(x)), x with the lowest number around it
    max_pool(dequantize(q))     ->  dequantize(amax(windows(q)))
    avg_pool(x)                 ->  mean(windows(x)), x with 0 around it; or the sum over how many elements are x's

Windows are `lower86::windows`: the elements of each as dims of their own. Adaptive pools have a file to themselves.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, shape_of, source_of, tensor_of
from ..graph.edit import insert, insert_constant, replace
from ..graph.qparams import is_whole_dequantize
from ..ops.windows import windows
from .adaptive_pools import ADAPTIVE_POOLS
from .precision import NARROW, as_dtype
from .shapes import sizes_of

_A = torch.ops.aten


_DTYPES = (torch.float32, torch.float64, *NARROW, torch.uint8, torch.int8, torch.int32, torch.int64)


def spell_pools(module: GraphModule) -> None:
    """Rewrites the pools whose options are numbers and whose indices nobody wants."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in POOLS:
            continue
        dims, spell = POOLS[node.target]
        results = [node]
        if not isinstance(node.meta["val"], torch.Tensor):
            results = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
            if len(results) != len(node.users):
                continue
        x = tensor_of(source_of(node))
        if x.dtype not in _DTYPES:
            continue
        batched = node if x.dim() == dims + 2 else _batched(node)
        pooled = spell(module, batched)
        for result in results if pooled is not None else ():
            assert pooled is not None
            if batched is not node:
                sizes = sizes_of(result, pooled)[1:]
                pooled = insert(result, _A.reshape.default, (pooled, sizes), like=result)
            replace(result, pooled)


def _batched(node: Node) -> Node:
    """The pool of an x with a batch dim of size 1; under a dequantize, as that is what moves with the pool."""
    x = source_of(node)
    source = source_of(x) if is_whole_dequantize(x) else x
    batched = insert(node, _A.reshape.default, (source, [1, *sizes_of(node, source)]), like=node)
    if source is not x:
        batched = insert(node, x.target, (batched, *x.args[1:]), dict(x.kwargs), like=x)
    return insert(node, node.target, (batched, *node.args[1:]), dict(node.kwargs), like=node)


class _Pool:
    """One pool being spelled: its options a spatial dim, and calls before it."""

    def __init__(self, node: Node, dims: int) -> None:
        self.node, self.dims, self.given = node, dims, arguments(node)
        self.kernel = self._each("kernel_size")
        self.stride = self._each("stride") or self.kernel
        self.padding = self._each("padding")
        self.dilation = self._each("dilation") if "dilation" in self.given else [1] * dims

    def _each(self, name: str) -> list[int]:
        value = self.given[name]
        numbers = list(value) if isinstance(value, (list, tuple)) else [value]
        return numbers * self.dims if len(numbers) == 1 else numbers

    def call(self, target: Any, *args: Any) -> Node:
        return insert(self.node, target, args, like=self.node)

    def counts(self) -> tuple[Any, ...]:
        """How many windows there are in each dim."""
        value = self.node.meta["val"]
        result = value if isinstance(value, torch.Tensor) else value[0]
        return tuple(result.shape[-self.dims :])

    def overhang(self, x: Node) -> list[int] | None:
        """How many elements the last windows need beyond x, a dim: more than the padding where sizes are rounded up."""
        found = []
        for i, (size, count) in enumerate(zip(shape_of(x)[-self.dims :], self.counts(), strict=True)):
            if not isinstance(size, int) or not isinstance(count, int):
                if self.given.get("ceil_mode"):
                    return None
                found.append(self.padding[i])
                continue
            reach = (count - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1
            found.append(max(reach - size - self.padding[i], 0))
        return found

    def windows(self, x: Node, high: Sequence[int], fill: float) -> Node:
        """x with its spatial dims as windows, their elements in as many last dims; outside x, `fill`."""
        kernel, high = list(self.kernel), list(high)
        for i, (size, count) in enumerate(zip(shape_of(x)[-self.dims :], self.counts(), strict=True)):
            # Some pool all there is by a kernel of any size: what lies beyond x and its padding is not worth a tap.
            if (
                isinstance(size, int)
                and count == 1
                and self.dilation[i] == 1
                and kernel[i] > 2 * self.padding[i] + size
            ):
                kernel[i], high[i] = self.padding[i] + size, 0
        options = {"kernel": kernel, "stride": self.stride, "dilation": self.dilation}
        return insert(
            self.node, windows, (x,), {**options, "low": self.padding, "high": high, "fill": fill}, like=self.node
        )

    @property
    def last(self) -> list[int]:
        """The dims of a window's elements."""
        return [i - self.dims for i in range(self.dims)]


def _max_pool(dims: int) -> Callable[[GraphModule, Node], Node | None]:
    def spell(module: GraphModule, node: Node) -> Node | None:
        pool = _Pool(node, dims)
        x = pool.given["self"]
        high = pool.overhang(x)
        if high is None:
            return None

        def largest(x: Node, lowest: float) -> Node:
            return pool.call(_A.amax.default, pool.windows(x, high, lowest), pool.last)

        if not is_whole_dequantize(x):
            return largest(x, _lowest(tensor_of(x).dtype))
        integers = largest(x.args[0], _lowest(tensor_of(x.args[0]).dtype))
        return insert(node, x.target, (integers, *x.args[1:]), dict(x.kwargs), like=x)

    return spell


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _avg_pool(dims: int) -> Callable[[GraphModule, Node], Node | None]:
    def spell(module: GraphModule, node: Node) -> Node | None:
        pool = _Pool(node, dims)
        x, divisor = pool.given["self"], pool.given.get("divisor_override")
        high = pool.overhang(x)
        if high is None or not tensor_of(x).is_floating_point():
            return None
        parts = pool.windows(x, high, 0.0)
        every = (pool.given["count_include_pad"] and high == pool.padding) or not any((*pool.padding, *high))
        if divisor is None and every:
            return pool.call(_A.mean.dim, parts, pool.last)
        total = pool.call(_A.sum.dim_IntList, parts, pool.last)
        if divisor is not None:
            return pool.call(_A.div.Tensor, total, divisor)
        sizes = (*shape_of(x)[-dims:], *pool.counts())
        if not all(isinstance(size, int) for size in sizes):
            return None
        inside = _elements(pool, sizes[:dims], pool.counts())
        mean = pool.call(_A.div.Tensor, total, insert_constant(module, node, inside, "_elements"))
        return as_dtype(node, mean, tensor_of(x).dtype)

    return spell


def _elements(pool: _Pool, sizes: Sequence[int], counts: Sequence[int]) -> torch.Tensor:
    """By how many elements each window's sum is divided."""
    total = torch.ones(())
    for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        first = torch.arange(count) * pool.stride[i] - pool.padding[i]
        last = first + pool.kernel[i]
        around = pool.padding[i] if pool.given["count_include_pad"] else 0
        inside = last.clamp(max=size + around) - first.clamp(min=-around)
        total = total.unsqueeze(-1) * inside.to(torch.float32)
    return total


POOLS: Mapping[Any, tuple[int, Callable[[GraphModule, Node], Node | None]]] = {
    _A.max_pool1d.default: (1, _max_pool(1)),
    _A.max_pool2d.default: (2, _max_pool(2)),
    _A.max_pool3d.default: (3, _max_pool(3)),
    _A.max_pool2d_with_indices.default: (2, _max_pool(2)),
    _A.max_pool3d_with_indices.default: (3, _max_pool(3)),
    _A.avg_pool1d.default: (1, _avg_pool(1)),
    _A.avg_pool2d.default: (2, _avg_pool(2)),
    _A.avg_pool3d.default: (3, _avg_pool(3)),
    **ADAPTIVE_POOLS,
}
"""Over how many dims each runs, and how it is spelled, by nodes before it; None where sizes it takes are not known."""
