"""A row operation under construction: its reductions, and the formula over their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.fx import Node

from ..program.kernels import Reduction
from ..program.sizes import Size
from .conditions import When
from .emission import Emission, Space
from .scalars import At, Scalar


@dataclass
class RowBody:
    """Helps a row operation to say its reductions: each gives its result as a scalar of the row.

    `full` and `kept` are the spaces of the input and of the result; `reduced` names the input's dims that it runs over,
    `extent` is how many elements those have.
    """

    emission: Emission
    node: Node
    full: Space
    kept: Space
    reduced: tuple[int, ...]
    extent: Size
    reductions: list[Reduction]

    @property
    def at(self) -> At:
        """The operands, broadcast to the input's shape."""
        return At(self.emission, self.node, self.full)

    def x(self, dtype: str = "") -> Scalar:
        """The input's element, as `dtype` or else as the result's."""
        return self.at.value(self.node.args[0], dtype or self.at.dtype)

    def own(self) -> Scalar:
        """The input's element, as its own dtype."""
        source = self.node.args[0]
        assert isinstance(source, Node)
        return Scalar(self.emission, self.emission.read(source, self.full))

    def reduce(self, kind: str, element: Scalar) -> Scalar:
        """The reduction of `element` over the row, which may be there already."""
        reduction = Reduction(kind, element.node)
        if reduction not in self.reductions:
            self.reductions.append(reduction)
        value = self.emission.body.add("value", (), element.dtype, (self.reductions.index(reduction),))
        return Scalar(self.emission, value)

    def mean(self, element: Scalar) -> Scalar:
        """The sum over the row, divided by its length."""
        return self.reduce("sum", element) / self.count(element.dtype)

    def count(self, dtype: str) -> Scalar:
        """How many elements the row has."""
        if isinstance(self.extent, int):
            return self.at.const(self.extent, dtype)
        return self.at.extent(self.extent).cast(dtype)

    def place(self) -> Scalar:
        """The element's number in the row, as i64, the reduced dims taken in order."""
        number = self.at.const(0, "i64")
        for dim in self.reduced:
            number = number * self.at.extent(self.full.shape[dim]) + self.at.index(dim)
        return number


@dataclass(frozen=True)
class RowOperation:
    """How to compute it, and when; whether its result needs every element again, or keeps the dim it runs over."""

    emit: Callable[[RowBody], Scalar]
    when: When
    full: bool = False
    keeps_reduced: bool = False
