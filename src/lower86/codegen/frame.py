"""How a kernel finds its arguments: one table of 64-bit words that a step fills.

    [status address | slot addresses … | dims … | params …]

`status` points to three words; a kernel that meets bad data writes what it saw and sets the first.
"""

from __future__ import annotations

from ..program.layout import Layout
from ..program.sizes import FloorDiv, Size
from .builder import ELEMENT, I64, PTR, VOID, Code, Module, Type, Value

STATUS_INDEX = 1
"""Status word 0 for an index out of range; word 1 holds the index, word 2 the bound."""


class Frame:
    """A function that sees the table: the kernel, `void name(table, unit)`, or one it calls with more arguments."""

    def __init__(self, module: Module, name: str, layout: Layout, *arguments: Type, internal: bool = False) -> None:
        self.layout = layout
        self.code: Code = module.function(name, VOID, PTR, *(arguments or (I64,)), internal=internal)
        self.table, self.unit, *self.arguments = self.code.arguments
        self._dims: dict[str, Value] = {}
        # Slots and dims are loaded once, where they dominate every use.
        self.slots = [self._word(PTR, 1 + i) for i in range(layout.slots)]
        for i, name_ in enumerate(layout.dims):
            self._dims[name_] = self._word(I64, 1 + layout.slots + i)

    def _word(self, kind: Type, position: int) -> Value:
        return self.code.load(kind, self.code.at(self.table, 8 * position), align=8)

    def param(self, position: int, dtype: str) -> Value:
        """The number that the step gives at `position`."""
        return self._word(ELEMENT[dtype], 1 + self.layout.slots + len(self.layout.dims) + position)

    def size(self, size: Size) -> Value | int:
        """A size as a number if it is known, else as code."""
        if isinstance(size, int):
            return size
        total: Value | int = 0
        for monomial, coefficient in size.terms:
            term: Value | int = coefficient
            for atom in monomial:
                factor = self._dims[atom] if isinstance(atom, str) else self._quotient(atom)
                term = self.code.mul(term, factor)
            total = self.code.add(total, term)
        return total

    def _quotient(self, atom: FloorDiv) -> Value | int:
        return self.code.floor_div(self.size(atom.numerator), self.size(atom.denominator))

    def sizes(self, sizes: tuple[Size, ...]) -> list[Value | int]:
        """`size` of each."""
        return [self.size(size) for size in sizes]

    def split(self, index: Value | int, sizes: tuple[Size, ...]) -> list[Value | int]:
        """The coordinates of the row-major position `index` in a space of `sizes`."""
        coordinates: list[Value | int] = []
        for size in reversed(sizes[1:]):
            extent = self.size(size)
            coordinates.append(self.code.rem(index, extent))
            index = self.code.div(index, extent)
        if sizes:
            coordinates.append(index)
        return coordinates[::-1]

    def report_index(self, value: Value, bound: Value | int) -> None:
        """Marks the run as failed: `value` is outside `bound`."""
        code = self.code
        status = self._word(PTR, 0)
        code.store(value, code.at(status, 8), align=8)
        code.store(code.i64(bound), code.at(status, 16), align=8)
        code.store(code.i64(STATUS_INDEX), status, align=8)
