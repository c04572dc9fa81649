"""Nodes that no kernel computes: called back into PyTorch on tensors that share the program's memory."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from ..errors import GraphError, InputError, first_line
from ..graph.source import describe
from ..program.dtypes import DTYPES
from ..program.program import Foreign
from ..program.sizes import Size, evaluate
from .memory import Memory
from .symbols import storage_of, to_size, to_sizes
from .views import View, contiguous


@dataclass(frozen=True)
class _Hole:
    """Where in the arguments operand number `number` goes."""

    number: int


@dataclass(frozen=True)
class _Number:
    """A size known only at the call."""

    size: Size


@dataclass(frozen=True)
class ForeignCall:
    """One call: `target(*args, **kwargs)` with tensors in the holes; its results are copied to `outputs`."""

    name: str
    operator: str
    where: str
    target: Any
    args: Any
    kwargs: Any
    inputs: tuple[tuple[View, torch.dtype], ...]
    outputs: tuple[tuple[View, torch.dtype], ...]

    def __call__(self, addresses: Sequence[int], dims: Mapping[str, int]) -> None:
        """Runs it on the memory at `addresses`: first the inputs', then the outputs'."""
        count = len(self.inputs)
        tensors = [tensor_at(*typed, at, dims) for typed, at in zip(self.inputs, addresses[:count], strict=True)]

        def fill(leaf: Any) -> Any:
            if isinstance(leaf, _Hole):
                return tensors[leaf.number]
            return evaluate(leaf.size, dims) if isinstance(leaf, _Number) else leaf

        args, kwargs = torch.utils._pytree.tree_map(fill, (self.args, self.kwargs))
        try:
            with torch.no_grad():
                results = self.target(*args, **kwargs)
            listed = [results] if isinstance(results, Tensor) else list(results)
            for typed, at, result in zip(self.outputs, addresses[count:], listed, strict=True):
                # Of an empty input, an operator may give another shape than the one it has told export.
                tensor_at(*typed, at, dims).copy_(result)
        except (RuntimeError, ValueError, IndexError, TypeError) as problem:  # what operators raise for their operands
            raise InputError(
                f"{self.operator} refuses its operands in this call: {first_line(problem)}",
                where=self.where,
                fix="pass inputs of sizes and values that the model takes in PyTorch, too",
            ) from problem


def tensor_at(view: View, torch_dtype: torch.dtype, address: int, dims: Mapping[str, int]) -> Tensor:
    """The view as a tensor over the program's own memory; its value lies at `address`."""
    shape = [evaluate(size, dims) for size in view.shape]
    strides = [evaluate(stride, dims) for stride in view.strides]
    dtype = DTYPES[view.dtype]
    if 0 in shape:
        return torch.empty(shape, dtype=torch_dtype)
    reach = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    start = address + evaluate(view.offset, dims) * dtype.size
    memory = (ctypes.c_char * (reach * dtype.size)).from_address(start)
    flat = torch.from_numpy(np.frombuffer(memoryview(memory), dtype=dtype.numpy))
    return flat.view(torch_dtype).as_strided(shape, strides)


def foreign_call(memory: Memory, node: Node, number: int) -> tuple[ForeignCall, Foreign]:
    """The call of a foreign node and its step; the node's results get views."""
    inputs: list[tuple[View, torch.dtype]] = []

    def hole(operand: Node) -> Any:
        value = operand.meta.get("val")
        if isinstance(value, Tensor):
            inputs.append((memory.view(operand), value.dtype))
            return _Hole(len(inputs) - 1)
        if operand.op == "get_attr" and str(operand.target) in dict(memory.module.named_modules()):
            return memory.module.get_submodule(str(operand.target))  # a branch, or the body of a loop
        return _Number(to_size(value))

    args = torch.fx.node.map_arg(node.args, hole)
    kwargs = torch.fx.node.map_arg(node.kwargs, hole)
    value = node.meta["val"]
    results = [value] if isinstance(value, Tensor) else list(value)
    outputs: list[tuple[View, torch.dtype]] = []
    for result in results:
        dtype = storage_of(result.dtype) if isinstance(result, Tensor) else None
        if dtype is None:
            kind = getattr(result, "dtype", type(result).__name__)
            raise GraphError(
                f"{node.target} gives {kind}, which programs do not hold",
                where=describe(node),
                fix="convert the model to float32, or keep this operator out of it",
            )
        try:
            shape = to_sizes(result.shape)
        except GraphError as problem:
            raise GraphError(
                f"{node.target} gives a shape that depends on data", where=describe(node), fix=problem.fix
            ) from problem
        outputs.append((contiguous(memory.plan.value(dtype, shape), dtype, shape), result.dtype))
    if isinstance(value, Tensor):
        memory.views[node] = outputs[0][0]
    for user in node.users:
        if user.target is operator.getitem and not isinstance(value, Tensor):
            place: Any = user.args[1]
            memory.views[user] = outputs[place][0]
    name = str(getattr(node.target, "_schema", node.target)).split("(")[0]
    call = ForeignCall(node.name, name, describe(node), node.target, args, kwargs, tuple(inputs), tuple(outputs))
    step = Foreign(number, tuple(v.value for v, _ in inputs), tuple(v.value for v, _ in outputs), node.name)
    return call, step
