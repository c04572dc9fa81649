"""Operators as formulas over scalars: operands by the schema's names, Python's arithmetic between them.

    def _leaky_relu(at: At) -> Scalar:
        x = at("self")
        return where(x > 0, x, x * at.number("negative_slope"))

An `Elementwise` is such a formula and when it holds. The tables of the operators' families are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.dtypes import DTYPES, computed
from ..program.sizes import Size
from .conditions import When
from .emission import Emission, Space
from .symbols import DTYPE_NAMES, to_size

Emit = Callable[[Emission, Node, Space], int]
"""Gives the body node for an FX node at a point."""


@dataclass(frozen=True)
class Scalar:
    """A value of a body under construction. A number on the other side of an operator takes its dtype."""

    emission: Emission
    node: int

    @property
    def dtype(self) -> str:
        return self.emission.body.nodes[self.node].dtype

    @property
    def is_float(self) -> bool:
        return DTYPES[self.dtype].kind == "float"

    def call(self, op: str, *others: Scalar | float, dtype: str = "") -> Scalar:
        """An operation of bodies on this value and the others; gives this one's dtype unless told otherwise."""
        nodes = [self.like(other).node for other in others]
        return Scalar(self.emission, self.emission.call(op, self.node, *nodes, dtype=dtype or None))

    def like(self, other: Scalar | float) -> Scalar:
        """A number as a value of this one's dtype; a value is returned as it is."""
        return other if isinstance(other, Scalar) else constant(self.emission, self.dtype, other)

    def cast(self, dtype: str) -> Scalar:
        return Scalar(self.emission, self.emission.cast(self.node, dtype))

    def rounded(self, dtype: str) -> Scalar:
        """As memory of `dtype` would hold it."""
        return Scalar(self.emission, self.emission.rounded(self.node, dtype))

    def __add__(self, other: Scalar | float) -> Scalar:
        return self.call("add", other)

    def __radd__(self, other: float) -> Scalar:
        return self.like(other).call("add", self)

    def __sub__(self, other: Scalar | float) -> Scalar:
        return self.call("sub", other)

    def __rsub__(self, other: float) -> Scalar:
        return self.like(other).call("sub", self)

    def __mul__(self, other: Scalar | float) -> Scalar:
        return self.call("mul", other)

    def __rmul__(self, other: float) -> Scalar:
        return self.like(other).call("mul", self)

    def __truediv__(self, other: Scalar | float) -> Scalar:
        return self.call("div", other)

    def __rtruediv__(self, other: float) -> Scalar:
        return self.like(other).call("div", self)

    def __neg__(self) -> Scalar:
        return self.call("neg")

    def __abs__(self) -> Scalar:
        return self.call("abs")

    def __lt__(self, other: Scalar | float) -> Scalar:
        return self.call("lt", other, dtype="bool")

    def __le__(self, other: Scalar | float) -> Scalar:
        return self.call("le", other, dtype="bool")

    def __gt__(self, other: Scalar | float) -> Scalar:
        return self.call("gt", other, dtype="bool")

    def __ge__(self, other: Scalar | float) -> Scalar:
        return self.call("ge", other, dtype="bool")

    def equals(self, other: Scalar | float) -> Scalar:
        return self.call("eq", other, dtype="bool")

    def differs(self, other: Scalar | float) -> Scalar:
        return self.call("ne", other, dtype="bool")

    def is_nan(self) -> Scalar:
        return self.differs(self)

    def __and__(self, other: Scalar) -> Scalar:
        return self.call("and", other)

    def __or__(self, other: Scalar) -> Scalar:
        return self.call("or", other)

    def __invert__(self) -> Scalar:
        return self.call("not")

    def at_least(self, other: Scalar | float) -> Scalar:
        """The larger of two; NaN if either is."""
        return self.call("max", other)

    def at_most(self, other: Scalar | float) -> Scalar:
        """The smaller of two; NaN if either is."""
        return self.call("min", other)


def constant(e: Emission, dtype: str, value: float) -> Scalar:
    """A number as part of the code: infinite where it is beyond float32, as PyTorch's are."""
    if value != value:
        # Equal bodies have to be equal as data, and no NaN equals itself.
        zero = e.const(dtype, 0)
        return Scalar(e, e.call("div", zero, zero))
    if dtype == "f32":
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    return Scalar(e, e.const(dtype, value))


def where(condition: Scalar, yes: Scalar | float, no: Scalar | float) -> Scalar:
    """One of two values, at least one of which is no plain number."""
    typed = yes if isinstance(yes, Scalar) else no
    assert isinstance(typed, Scalar)
    return condition.call("select", typed.like(yes), typed.like(no), dtype=typed.dtype)


class At:
    """A node at one point: its operands as scalars, its options as numbers."""

    def __init__(self, emission: Emission, node: Node, space: Space) -> None:
        self.emission, self.node, self.space = emission, node, space
        self._given = arguments(node)

    @property
    def dtype(self) -> str:
        """The dtype in which the node's result is computed."""
        return computed(self.stored)

    @property
    def stored(self) -> str:
        """The dtype of the node's result in memory."""
        return DTYPE_NAMES[self.node.meta["val"].dtype]

    def __call__(self, name: str, dtype: str = "") -> Scalar:
        """An operand, tensor or number, as `dtype`, or else as the result's dtype."""
        return self.value(self._given[name], dtype or self.dtype)

    def value(self, operand: Any, dtype: str) -> Scalar:
        """A tensor's element, a size or a number, as `dtype`."""
        if not isinstance(operand, Node):
            return constant(self.emission, dtype, operand)
        example = operand.meta["val"]
        if isinstance(example, torch.SymInt):
            return self.extent(to_size(example)).cast(dtype)
        return Scalar(self.emission, self.emission.read(operand, self.space)).cast(dtype)

    def own(self, name: str) -> Scalar:
        """An operand that is a tensor, as its own dtype."""
        return Scalar(self.emission, self.emission.read(self._given[name], self.space))

    def given(self, name: str) -> bool:
        """Whether there is such an operand or option, and it is not None."""
        return self._given.get(name) is not None

    def number(self, name: str, default: Any = None) -> Any:
        """An option's value."""
        return self._given.get(name, default)

    def const(self, value: float, dtype: str = "") -> Scalar:
        return constant(self.emission, dtype or self.dtype, value)

    def param(self, value: float) -> Scalar:
        """A number that the step gives, as the result's dtype."""
        return Scalar(self.emission, self.emission.param(self.dtype, value))

    def extent(self, size: Size) -> Scalar:
        """A size, as i64."""
        if isinstance(size, int):
            return self.const(size, "i64")
        return Scalar(self.emission, self.emission.body.add("extent", (), "i64", (size,)))

    def index(self, dim: int) -> Scalar:
        """The index along a dim of the result, as i64."""
        axis = self.space.axes[dim]
        total: Scalar | None = None
        for position, factor in axis.parts:
            part = Scalar(self.emission, self.emission.body.add("index", (), "i64", (position,)))
            part = part if factor == 1 else part * factor
            total = part if total is None else total + part
        if total is None:
            return self.const(axis.offset, "i64")
        return total + axis.offset if axis.offset else total


@dataclass(frozen=True)
class Elementwise:
    """How to compute an operator element by element, and when that is known."""

    emit: Emit
    when: When


def formula(function: Callable[[At], Scalar], when: When) -> Elementwise:
    """An operator that is a formula; the result is cast to the node's dtype."""

    def emit(e: Emission, node: Node, space: Space) -> int:
        at = At(e, node, space)
        return function(at).cast(at.dtype).node

    return Elementwise(emit, when)
