"""A Program under construction: values, constants, kernels and steps as they are decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..errors import GraphError
from ..program.body import Body
from ..program.dtypes import DTYPES, is_narrow
from ..program.kernels import Kernel
from ..program.program import Check, Foreign, Loop, Packing, Step, Value
from ..program.renamed import renamed
from ..program.sizes import Size, SizeExpr, dim_atom, is_nonnegative, names, product
from .symbols import TORCH_DTYPES, storage_of
from .views import View

_AS_IT_IS = Packing()
SLACK_BYTES = 3
"""The most that the word of 4 bytes at the end of a run lies beyond it."""


class Plan:
    """Collects the parts of a Program; equal kernels and equal constants are held once."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.kernels: list[Kernel] = []
        self.steps: list[Step | Loop | Foreign] = []
        self.constants: list[Any] = []
        self.checks: dict[Check, None] = {}
        self.packings: list[Packing] = []
        self.slack: set[int] = set()
        """Values that kernels may read a word beyond their end."""
        self.source = ""
        """What in the model asks for that which is being added, for the messages of its checks and its index errors."""
        self._kernel_numbers: dict[str, int] = {}
        self._constant_values: dict[object, int] = {}
        # Keeps tensors alive whose addresses are keys above.
        self._tensors: list[torch.Tensor] = []

    @contextmanager
    def adding_for(self, source: str) -> Iterator[None]:
        """`source` is the model's part that asks for what is added in this context."""
        before, self.source = self.source, source
        yield
        self.source = before

    def value(self, dtype: str, shape: tuple[Size, ...], place: str = "arena", index: int = 0) -> int:
        """A new value's number."""
        for size in shape:
            self.require(size)
        self.values.append(Value(dtype, shape, place, index))
        return len(self.values) - 1

    def require(self, size: Size) -> None:
        """Has every call check that `size` is at least 0, unless that is sure."""
        if isinstance(size, SizeExpr) and not is_nonnegative(size):  # of numbers, export has made sure
            self.checks.setdefault(Check(0, "<=", size, self.source))

    def require_within(self, view: View) -> None:
        """Has every call check that the view's elements are its value's, whatever sizes export admitted."""
        last: Size = view.offset
        for size, stride in zip(view.shape, view.strides, strict=True):
            self.require(size)
            last = last + (size - 1) * stride
        rest = product(self.values[view.value].shape) - 1 - last
        if 0 not in view.shape and any(isinstance(size, int) and size < 0 for size in (view.offset, rest)):
            raise GraphError(
                f"a view of {list(view.shape)} elements reaches beyond its value",
                where=self.source,
                fix="this is a bug of lower86: report the model",
            )
        self.require(view.offset)
        self.require(rest)

    def constant(self, tensor: torch.Tensor, packing: Packing = _AS_IT_IS) -> int:
        """The value that holds `tensor`, packed as named; the same tensor twice is one value."""
        tensor = tensor.detach()
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, packing)
        if key not in self._constant_values or tensor.numel() == 0:
            self._tensors.append(tensor)
            storage = storage_of(tensor.dtype)
            assert storage is not None
            self.constants.append(bits_of(tensor, storage))
            self.packings.append(packing)
            shape = tuple(int(s) for s in tensor.shape)
            number = self.value(storage, shape, "constant", len(self.constants) - 1)
            self._constant_values[key] = number
        return self._constant_values[key]

    def step(
        self,
        kernel: Kernel,
        slots: Sequence[tuple[int, Size]],
        params: Sequence[tuple[str, float]],
        label: str,
    ) -> None:
        """Adds a step; the kernel's dims are renamed d0, d1, … so that kernels of different dims can be equal."""
        used = _dim_names(kernel)
        if used:
            kernel = renamed(kernel, {name: f"d{i}" for i, name in enumerate(used)})
        number = self._kernel_numbers.setdefault(repr(kernel), len(self.kernels))
        if number == len(self.kernels):
            self.kernels.append(kernel)
        dims = tuple(dim_atom(name) for name in used)
        source = self.source if _reads_at_indices(kernel) else ""
        self.steps.append(Step(number, tuple(slots), dims, tuple(params), label, source))

    def loop(self, first: int, count: Size, strides: Mapping[int, Size], label: str) -> None:
        """Makes a loop of the steps from number `first` on.

        `strides`: how many bytes further on a value is read or written each time, if that is not 0.
        """
        steps = [step for step in self.steps[first:] if isinstance(step, Step)]
        assert len(steps) == len(self.steps) - first
        advances = tuple(tuple(strides.get(value, 0) for value, _ in step.slots) for step in steps)
        self.steps[first:] = [Loop(count, tuple(steps), advances, label)]

    def bytes_of(self, value: int) -> Size:
        """Bytes that a value takes, slack included."""
        declared = self.values[value]
        return product(declared.shape) * DTYPES[declared.dtype].size + (SLACK_BYTES if value in self.slack else 0)


def bits_of(tensor: torch.Tensor, storage: str) -> Any:
    """The tensor's bits as NumPy's array of this dtype."""
    bits = torch.int16 if is_narrow(storage) else TORCH_DTYPES[storage]
    array = tensor.detach().contiguous().view(bits).numpy().view(DTYPES[storage].numpy)
    return np.ascontiguousarray(array).reshape(tuple(tensor.shape))  # a number alone would become a list of one


def _reads_at_indices(kernel: Kernel) -> bool:
    bodies = (getattr(kernel, field.name) for field in dataclasses.fields(kernel))
    nodes = (node for body in bodies if isinstance(body, Body) for node in body.nodes)
    return any(node.op in ("gather", "checked") for node in nodes)


def _dim_names(part: object) -> list[str]:
    found: dict[str, None] = {}

    def walk(item: object) -> None:
        if isinstance(item, SizeExpr):
            found.update(dict.fromkeys(names(item)))
        elif isinstance(item, tuple):
            for inner in item:
                walk(inner)
        elif dataclasses.is_dataclass(item):
            for field in dataclasses.fields(item):
                walk(getattr(item, field.name))

    walk(part)
    return list(found)
