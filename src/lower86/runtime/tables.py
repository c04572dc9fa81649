"""The words that generated code reads its arguments from, and how they follow from a call's dims.

A row of the step table is four words: a kernel's address, where its own words are, its units, and one for the pool. A
kernel's words are the status, the addresses of its slots, its dims, its params. A step of a loop has a row, and words,
for each time. What they are made of is the same for all dims and listed once; a call's dims only tell a few numbers, of
which all words follow at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..program.layout import Layout, layout_of
from ..program.program import Loop, Program, Step
from ..program.sizes import Size, evaluate
from .packing import Allocate

Words = npt.NDArray[np.int64]
ROW_BYTES = 32
WORD_COST, ROW_COST = 64, 96
"""Bytes that a word of the table, and a row, take at most while tables are written: themselves and what tells them."""


class Arena(NamedTuple):
    """Memory for a call's intermediate values."""

    memory: npt.NDArray[np.uint8]
    address: int
    size: int

    @classmethod
    def of(cls, allocate: Allocate, size: int) -> Arena:
        memory = allocate(size)
        return cls(memory, memory.ctypes.data, size)


NOWHERE = Arena(np.zeros(0, np.uint8), 0, 0)
"""That of tables that wait for a call."""


@dataclass
class Tables:
    """What one call needs to itself, written for its dims; the arena may be another one in every call."""

    dims: dict[str, int]
    table: Words
    steps: Words
    rows: Sequence[int]
    """The row of the step table where each of the program's steps begins, and where the last one ends."""
    bases: Words
    """Where each value lies; inputs, outputs and state only as `run_steps` and foreign calls ask for them."""
    status: Words
    arena_bytes: int
    words: Words
    """Words of the table that depend on the call's own addresses: these, …"""
    numbers: Words
    """… of this input, output or state, in the order of the addresses, …"""
    offsets: Words
    """… so many bytes from where it begins."""
    in_arena: Words
    """Words of the table that are addresses in the arena."""
    values_in_arena: Words
    arena: Arena = NOWHERE
    _arena_at: int = 0
    first: int = field(init=False)
    """The address of `steps`."""
    status_at: int = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.status_at = self.steps.ctypes.data, self.status.ctypes.data

    @property
    def nbytes(self) -> int:
        """Of memory that it holds."""
        told = (self.words, self.numbers, self.offsets, self.in_arena)
        return self.table.nbytes + self.steps.nbytes + self.bases.nbytes + sum(array.nbytes for array in told)

    def move_to(self, arena: Arena) -> None:
        """Has all that lies in an arena lie in this one."""
        self.arena = arena
        far = arena.address - self._arena_at
        if far:
            self.table[self.in_arena] += far
            self.bases[self.values_in_arena] += far
            self._arena_at = arena.address


class Writer:
    """Writes the tables of one program. Several threads may use it at once."""

    def __init__(self, program: Program, kernels: Sequence[int], constants: Sequence[int]) -> None:
        """`kernels`, `constants`: where they are."""
        self._sizes: dict[Size, int] = {}  # each once: where it is among the numbers
        self._units: dict[tuple[int, tuple[int, ...]], int] = {}  # likewise, by kernel and where its dims are
        self._values(program, constants)
        layouts, one, parts = [layout_of(kernel) for kernel in program.kernels], self._place(1), _Parts()
        for step in program.steps:
            each = step.steps if isinstance(step, Loop) else (step,) if isinstance(step, Step) else ()
            count = self._place(step.count) if isinstance(step, Loop) else one
            for i, part in enumerate(each):
                advances = step.advances[i] if isinstance(step, Loop) else None
                position = (len(parts.program), i, count)
                self._list(parts, part, kernels[part.kernel], layouts[part.kernel], position, advances)
            parts.program.append((len(each), count))
        self._each, self._counts = _columns(parts.program, 2)
        self._position, self._within, self._times, self._kernel, self._width, self._units_of = _columns(parts.steps, 6)
        self._sized, self._fixed, self._slots = (
            _columns(part, n) for part, n in ((parts.sized, 3), (parts.fixed, 3), (parts.slots, 5))
        )
        self._unit_sizes = [(program.kernels[kernel].units(), places) for kernel, places in self._units]

    def _values(self, program: Program, constants: Sequence[int]) -> None:
        places = [value.place for value in program.values]
        self._number_of = np.full(len(places), -1)
        for number, i in enumerate((*program.inputs, *program.outputs, *(state.value for state in program.states))):
            self._number_of[i] = number
        self._bases = np.zeros(len(places), np.int64)
        for i, value in enumerate(program.values):
            if value.place == "constant":
                self._bases[i] = constants[value.index]
        self._is_in_arena = np.array([place == "arena" for place in places], bool)
        self._values_in_arena = np.flatnonzero(self._is_in_arena)
        self._arena_offsets = [self._place(program.values[i].offset) for i in self._values_in_arena]
        self._arena_bytes = self._place(program.arena_bytes)

    def _place(self, size: Size) -> int:
        return self._sizes.setdefault(size, len(self._sizes))

    def _list(
        self, parts: _Parts, step: Step, kernel: int, layout: Layout, position: Sequence[int],
        advances: Sequence[Size] | None,
    ) -> None:  # fmt: skip
        """Adds a native step at this position: the program's step, which of its parts, where its count is."""
        number, places = len(parts.steps), [self._place(size) for size in step.dims]
        units = self._units.setdefault((step.kernel, tuple(places)), len(self._units))
        parts.steps.append((*position, kernel, layout.words, units))
        for i, (value, offset) in enumerate(step.slots):
            far = self._place(0 if advances is None else advances[i])
            parts.slots.append((number, 1 + i, value, self._place(offset), far))
        at = 1 + layout.slots
        parts.sized += [(number, at + i, places[int(name[1:])]) for i, name in enumerate(layout.dims)]
        at += len(layout.dims)
        parts.fixed += [(number, at + i, _word(*param)) for i, param in enumerate(step.params)]

    def tables(self, dims: dict[str, int]) -> Tables:
        """For calls with these dims, of which it is known that they stay within their buffers."""
        numbers = np.array([evaluate(size, dims) for size in self._sizes], np.int64)
        units = np.array([
            evaluate(size, {f"d{i}": int(numbers[place]) for i, place in enumerate(places)})
            for size, places in self._unit_sizes
        ], np.int64)  # fmt: skip
        times, length = numbers[self._times], self._each * numbers[self._counts]
        rows, begins = np.cumsum((0, *length)), np.cumsum(self._width * times) - self._width * times
        status = np.zeros(3, np.int64)
        table, steps = np.zeros(int((self._width * times).sum()), np.int64), np.zeros((int(rows[-1]), 4), np.int64)

        def spread(step: Words) -> tuple[Words | slice, Words | int, Words]:
            """Of what these native steps have: which, for each time, that time, and where the words of it begin."""
            often = times[step]
            if (often == 1).all():
                return slice(None), 0, begins[step]
            which = np.repeat(np.arange(len(step)), often)
            time = np.arange(len(which)) - np.repeat(np.cumsum(often) - often, often)
            return which, time, begins[step][which] + time * self._width[step[which]]

        which, time, at = spread(np.arange(len(times)))
        position = self._position[which]
        row = rows[position] + time * self._each[position] + self._within[which]
        steps[row, 0], steps[row, 1] = self._kernel[which], table.ctypes.data + 8 * at
        steps[row, 2] = units[self._units_of[which]]
        table[at] = status.ctypes.data
        for (step, word, told), number in ((self._sized, numbers), (self._fixed, None)):
            which, _, at = spread(step)
            table[at + word[which]] = told[which] if number is None else number[told[which]]
        step, word, value, offset, advance = self._slots
        which, time, at = spread(step)
        at, value, offsets = at + word[which], value[which], numbers[offset[which]] + time * numbers[advance[which]]
        bases = self._bases.copy()
        bases[self._values_in_arena] = numbers[self._arena_offsets]
        table[at] = bases[value] + offsets
        moving, in_arena = np.flatnonzero(self._number_of[value] >= 0), at[self._is_in_arena[value]]
        return Tables(
            dims, table, steps, rows.tolist(), bases, status, int(numbers[self._arena_bytes]),
            at[moving], self._number_of[value[moving]], offsets[moving], in_arena, self._values_in_arena,
        )  # fmt: skip


@dataclass
class _Parts:
    """What a program's tables are made of, while it is listed: of each of its steps, and of each native one.

    A native step is known by its number; a word of its, by where in the row it is.
    """

    program: list[tuple[int, int]] = field(default_factory=list)
    """How many native steps, and where the number of times is."""
    steps: list[tuple[int, ...]] = field(default_factory=list)
    """Its place in the program, among those of a loop; where the number of times is; kernel, words, units."""
    sized: list[tuple[int, int, int]] = field(default_factory=list)
    """Step, word, and where its number is."""
    fixed: list[tuple[int, int, int]] = field(default_factory=list)
    """Step, word, and what it is."""
    slots: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """Step, word, value, and where its offset and its advance are."""


def _columns(rows: Sequence[Sequence[int]], count: int) -> Sequence[Words]:
    return [column.copy() for column in np.array(rows, np.int64).reshape(-1, count).T]


def _word(dtype: str, value: float) -> int:
    """A param as the 64-bit word that kernels load it from."""
    if dtype == "f32":
        return int(struct.unpack("<I", struct.pack("<f", np.float32(value)))[0])
    if dtype == "f64":
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)
