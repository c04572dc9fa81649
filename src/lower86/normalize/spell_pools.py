"""Pools as reductions over windows, which are views; of integers, as integers.

    max_pool(x)                 ->  amax(windows(x)), x with the lowest number around it
    max_pool(dequantize(q))     ->  dequantize(amax(windows(q)))
    avg_pool(x)                 ->  mean(windows(x)), x with 0 around it; or the sum over how many elements are x's
    adaptive_avg_pool(x, 1)     ->  mean(x)
    adaptive_avg_pool(x, n)     ->  avg_pool, where n divides the size; else matrices of averages on either side
    adaptive_max_pool(x, n)     ->  max_pool, where n divides the size

Windows are `lower86::windows`: the elements of each as dims of their own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, shape_of, tensor_of
from ..graph.edit import insert, insert_constant, replace
from ..graph.qparams import is_plain_dequantize
from ..ops.windows import windows

_A = torch.ops.aten


def spell_pools(module: GraphModule) -> None:
    """Rewrites the pools whose options are numbers and whose indices nobody wants."""
    for node in list(module.graph.nodes):
        spell = POOLS.get(node.target) if node.op == "call_function" else None
        if spell is None:
            continue
        results = [node]
        if not isinstance(node.meta["val"], torch.Tensor):
            results = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
            if len(results) != len(node.users):
                continue
        pooled = spell(module, node)
        for result in results if pooled is not None else ():
            assert pooled is not None
            replace(result, pooled)


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
            # Some pool all there is by a kernel of any size: what lies beyond x is not worth a tap.
            if isinstance(size, int) and count == 1 and self.dilation[i] == 1 and kernel[i] > self.padding[i] + size:
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

        if not is_plain_dequantize(x):
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
        return pool.call(_A.div.Tensor, total, insert_constant(module, node, inside, "_elements"))

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


def _adaptive_avg_pool(dims: int) -> Callable[[GraphModule, Node], Node | None]:
    def spell(module: GraphModule, node: Node) -> Node | None:
        def call(target: Any, *args: Any) -> Node:
            return insert(node, target, args, like=node)

        given = arguments(node)
        x, wanted = given["self"], given["output_size"]
        wanted = [wanted] if isinstance(wanted, int) else list(wanted)
        sizes = shape_of(x)[-dims:]
        if not tensor_of(x).is_floating_point():
            return None
        if all(size == 1 for size in wanted):
            return call(_A.mean.dim, x, list(range(-dims, 0)), True)
        if not all(isinstance(size, int) for size in (*sizes, *wanted)):
            return None
        if all(size % count == 0 for size, count in zip(sizes, wanted, strict=True)):
            return call(_A.mean.dim, _blocks(call, x, sizes, wanted), list(range(-dims, 0)))
        result: Node = x
        for dim, (size, count) in enumerate(zip(sizes, wanted, strict=True)):
            # The dim goes last, meets its matrix, and goes back.
            rank = len(shape_of(result))
            order = list(range(rank))
            own = rank - dims + dim
            order[own], order[-1] = order[-1], order[own]
            matrix = insert_constant(module, node, _averages(size, count, tensor_of(result).dtype), "_averages")
            moved = call(_A.permute.default, result, order)
            result = call(_A.permute.default, call(_A.linear.default, moved, matrix), order)
        return result

    return spell


def _adaptive_max_pool(dims: int) -> Callable[[GraphModule, Node], Node | None]:
    def spell(module: GraphModule, node: Node) -> Node | None:
        def call(target: Any, *args: Any) -> Node:
            return insert(node, target, args, like=node)

        given = arguments(node)
        x, wanted = given["self"], list(given["output_size"])
        sizes = shape_of(x)[-dims:]
        if not all(isinstance(size, int) for size in (*sizes, *wanted)):
            return None
        if any(size % count for size, count in zip(sizes, wanted, strict=True)):
            return None
        last = list(range(-dims, 0))
        if not is_plain_dequantize(x):
            return call(_A.amax.default, _blocks(call, x, sizes, wanted), last)
        integers = call(_A.amax.default, _blocks(call, x.args[0], sizes, wanted), last)
        return insert(node, x.target, (integers, *x.args[1:]), dict(x.kwargs), like=x)

    return spell


def _blocks(call: Callable[..., Node], x: Node, sizes: Sequence[int], counts: Sequence[int]) -> Node:
    """x with each spatial dim cut into `counts` blocks, their elements in as many last dims."""
    first = len(shape_of(x)) - len(sizes)
    for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        x = call(_A.unfold.default, x, first + i, size // count, size // count)
    return x


def _averages(size: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """[count, size]: row i averages the elements from floor(i·size/count) to ceil((i + 1)·size/count)."""
    matrix = torch.zeros(count, size, dtype=dtype)
    for i in range(count):
        first, last = i * size // count, -(-(i + 1) * size // count)
        matrix[i, first:last] = 1 / (last - first)
    return matrix


POOLS: Mapping[Any, Callable[[GraphModule, Node], Node | None]] = {
    _A.max_pool1d.default: _max_pool(1),
    _A.max_pool2d.default: _max_pool(2),
    _A.max_pool3d.default: _max_pool(3),
    _A.max_pool2d_with_indices.default: _max_pool(2),
    _A.max_pool3d_with_indices.default: _max_pool(3),
    _A.avg_pool1d.default: _avg_pool(1),
    _A.avg_pool2d.default: _avg_pool(2),
    _A.avg_pool3d.default: _avg_pool(3),
    _A.adaptive_avg_pool1d.default: _adaptive_avg_pool(1),
    _A.adaptive_avg_pool2d.default: _adaptive_avg_pool(2),
    _A.adaptive_avg_pool3d.default: _adaptive_avg_pool(3),
    _A._adaptive_avg_pool2d.default: _adaptive_avg_pool(2),
    _A._adaptive_avg_pool3d.default: _adaptive_avg_pool(3),
    _A.adaptive_max_pool2d.default: _adaptive_max_pool(2),
    _A.adaptive_max_pool3d.default: _adaptive_max_pool(3),
}
"""How each is spelled, by nodes before it; None where the sizes it takes are not known."""
