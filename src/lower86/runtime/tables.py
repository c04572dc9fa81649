"""The words that generated code reads its arguments from, and how they follow from a call's dims.

A row of the step table is four words: a kernel's address, where its own words are, its units, and one for the pool. A
kernel's words are the status, the addresses of its slots, its dims, its params. Where all of them lie, and most of what
they are, is the same for all dims, but for loops that run a different number of times: it is laid out once. What is
left is a few numbers and sums of numbers, for all steps at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..program.layout import Layout, layout_of
from ..program.program import Foreign, Loop, Program, Step
from ..program.sizes import Size, evaluate
from .packing import Allocate

Words = npt.NDArray[np.int64]
ROW_BYTES = 32


class Arena(NamedTuple):
    """Memory for a call's intermediate values."""

    memory: npt.NDArray[np.uint8]
    address: int
    size: int

    @classmethod
    def of(cls, allocate: Allocate, size: int) -> Arena:
        memory = allocate(size)
        return cls(memory, memory.ctypes.data, size)


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
    arena: Arena = field(init=False)
    _arena_at: int = 0
    first: int = field(init=False)
    """The address of `steps`."""
    status_at: int = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.status_at = self.steps.ctypes.data, self.status.ctypes.data

    @property
    def nbytes(self) -> int:
        """Of memory that it holds."""
        return self.table.nbytes + self.steps.nbytes

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
        self._program, self._kernels, self._constants = program, kernels, constants
        self._layouts = [layout_of(kernel) for kernel in program.kernels]
        self._last: tuple[list[int], _Form] | None = None

    def tables(self, dims: dict[str, int]) -> Tables:
        """For calls with these dims, of which it is known that they stay within their buffers."""
        counts = [evaluate(step.count, dims) for step in self._program.steps if isinstance(step, Loop)]
        last = self._last
        if last is None or last[0] != counts:
            last = self._last = counts, self._form(counts)
        return last[1].tables(dims)

    def _form(self, counts: Sequence[int]) -> _Form:
        form, left = _Form(self._program, self._constants), iter(counts)
        for step in self._program.steps:
            if isinstance(step, Foreign):
                form.begin(0)
            elif isinstance(step, Step):
                form.begin(1)
                form.add(step, self._kernels[step.kernel], self._layouts[step.kernel])
            else:
                form.begin(len(step.steps), next(left))
                for part, advances in zip(step.steps, step.advances, strict=True):
                    form.add(part, self._kernels[part.kernel], self._layouts[part.kernel], advances)
        form.end()
        return form


class _Form:
    """What a program's tables are for all dims with which its loops run equally often, and what else they need."""

    def __init__(self, program: Program, constants: Sequence[int]) -> None:
        self._program = program
        self._sizes: dict[Size, int] = {}  # each once: where it is among the numbers
        self._units: dict[tuple[int, tuple[int, ...]], int] = {}  # likewise, by kernel and where its dims are
        self._words = 0
        self.rows, self._each, self._times = [0], 0, 1
        # Of each step: what there is of every row of the step table, of every word that is a number, of every slot.
        self._parts: tuple[list[Words], ...] = tuple([np.zeros((0, width), np.int64)] for width in (4, 2, 2, 5))
        places = [value.place for value in program.values]
        self._number_of = np.full(len(places), -1)
        for number, i in enumerate((*program.inputs, *program.outputs, *(state.value for state in program.states))):
            self._number_of[i] = number
        self._bases = np.zeros(len(places), np.int64)
        for i, value in enumerate(program.values):
            if value.place == "constant":
                self._bases[i] = constants[value.index]
        self._values_in_arena = np.array([i for i, place in enumerate(places) if place == "arena"], np.int64)
        self._arena_offsets = [self._place(program.values[i].offset) for i in self._values_in_arena]
        self._arena_bytes = self._place(program.arena_bytes)

    def _place(self, size: Size) -> int:
        return self._sizes.setdefault(size, len(self._sizes))

    def begin(self, each: int, times: int = 1) -> None:
        """The next of the program's steps: so many native ones, so many times over."""
        self._each, self._times, self._first = each, times, self.rows[-1]
        self.rows.append(self._first + each * times)

    def add(self, step: Step, kernel: int, layout: Layout, advances: Sequence[Size] | None = None) -> None:
        """The next of those native steps; `advances`: of its slots, with each time."""
        places = [self._place(size) for size in step.dims]
        units = self._units.setdefault((step.kernel, tuple(places)), len(self._units))
        word, at = self._words, self._words + 1 + layout.slots
        slots = [
            (word + 1 + i, number, self._place(offset), self._place(0 if advances is None else advances[i]), 0)
            for i, (number, offset) in enumerate(step.slots)
        ]
        sized = [(at + i, places[int(name[1:])]) for i, name in enumerate(layout.dims)]
        fixed = [(at + len(sized) + i, _word(*param)) for i, param in enumerate(step.params)]
        # What they are the first time, and by how much more each next time.
        self._repeat(0, [(self._first, kernel, word, units)], (self._each, 0, layout.words, 0))
        self._repeat(1, sized, (layout.words, 0))
        self._repeat(2, fixed, (layout.words, 0))
        self._repeat(3, slots, (layout.words, 0, 0, 0, 1))
        self._words += layout.words * self._times
        self._first += 1

    def _repeat(self, part: int, first: Sequence[Sequence[int]], more: Sequence[int]) -> None:
        times = np.arange(self._times)[:, None, None] * np.array(more)
        self._parts[part].append((np.array(first, np.int64).reshape(-1, len(more)) + times).reshape(-1, len(more)))

    def end(self) -> None:
        """Nothing more will be added."""
        self._unit_sizes = [(self._program.kernels[kernel].units(), places) for kernel, places in self._units]
        rows, sized, fixed, slots = (np.concatenate(part).T.copy() for part in self._parts)
        self._order, kernels, self._begins, self._units_of = rows
        self._steps = np.zeros((self.rows[-1], 4), np.int64)
        self._steps[self._order, 0] = kernels
        self._steps[self._order, 1] = 8 * self._begins
        self._table = np.zeros(self._words, np.int64)
        self._table[fixed[0]] = fixed[1]
        self._sized_at, self._sized_by = sized
        self._slot_at, self._slot_of, self._offset_of, self._advance_of, self._time_of = slots
        self._moving = np.flatnonzero(self._number_of[self._slot_of] >= 0)
        self._moved_by = self._number_of[self._slot_of[self._moving]]
        self._in_arena = self._slot_at[np.isin(self._slot_of, self._values_in_arena)]

    def tables(self, dims: dict[str, int]) -> Tables:
        """For these dims."""
        numbers = np.array([evaluate(size, dims) for size in self._sizes], np.int64)
        units = [
            evaluate(size, {f"d{i}": int(numbers[place]) for i, place in enumerate(places)})
            for size, places in self._unit_sizes
        ]
        status, table, steps, bases = np.zeros(3, np.int64), *map(np.copy, (self._table, self._steps, self._bases))
        bases[self._values_in_arena] = numbers[self._arena_offsets]
        offsets = numbers[self._offset_of] + self._time_of * numbers[self._advance_of]
        table[self._begins] = status.ctypes.data
        table[self._slot_at] = bases[self._slot_of] + offsets
        table[self._sized_at] = numbers[self._sized_by]
        steps[:, 1] += table.ctypes.data
        steps[self._order, 2] = np.array(units, np.int64)[self._units_of]
        return Tables(
            dims, table, steps, self.rows, bases, status, int(numbers[self._arena_bytes]),
            self._slot_at[self._moving], self._moved_by, offsets[self._moving], self._in_arena, self._values_in_arena,
        )  # fmt: skip


def _word(dtype: str, value: float) -> int:
    """A param as the 64-bit word that kernels load it from."""
    if dtype == "f32":
        return int(struct.unpack("<I", struct.pack("<f", np.float32(value)))[0])
    if dtype == "f64":
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)
