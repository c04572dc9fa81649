"""Bodies of kernels, as tests write them."""

from __future__ import annotations

from lower86.program.body import Attribute, Body, BodyBuilder
from lower86.program.sizes import Size, contiguous_strides

Strides = tuple[Size, ...]


class Expression(BodyBuilder):
    """A body under construction; every method gives the position of the node it adds."""

    def load(self, slot: int, strides: Strides, dtype: str = "f32") -> int:
        return self.add("load", (), dtype, (slot, strides))

    def gather(
        self,
        slot: int,
        strides: Strides,
        places: dict[int, tuple[Size, Size]],
        dtype: str = "f32",
        *,
        wraps: bool = False,
    ) -> int:
        """`places`: for each index node, its stride and bound."""
        return self.add("gather", tuple(places), dtype, (slot, strides, tuple(places.values()), wraps))

    def value(self, number: int = 0, dtype: str = "f32") -> int:
        return self.add("value", (), dtype, (number,))

    def index(self, dim: int) -> int:
        return self.add("index", (), "i64", (dim,))

    def extent(self, size: Size) -> int:
        return self.add("extent", (), "i64", (size,))

    def const(self, value: Attribute, dtype: str = "f32") -> int:
        return self.add("const", (), dtype, (value,))

    def param(self, position: int, dtype: str = "f32") -> int:
        return self.add("param", (), dtype, (position,))

    def call(self, op: str, *args: int, dtype: str = "") -> int:
        """An operation; its dtype is that of its first operand unless given."""
        return self.add(op, args, dtype or self.nodes[args[0]].dtype)

    def quantize(self, x: int, first_param: int, dtype: str) -> int:
        """With 1 / scale, zero point, lowest and highest number in four params."""
        return self.call("quantize", x, *(self.param(first_param + i) for i in range(4)), dtype=dtype)


def stored(expression: Expression, node: int, slot: int, shape: tuple[Size, ...]) -> Body:
    """The finished body with one contiguous store of `node`."""
    expression.store(slot, contiguous_strides(shape), node)
    return expression.build()
