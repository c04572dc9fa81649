"""The proof that a call stays within its buffers, on the numbers of its dims, before anything of it runs.

For each step the lowest and the highest byte that it touches in each slot are known (`program.access`). They have to
lie within what the slot is bound to: an input, output or state of the size that its shape says, a packed constant, or
the arena. A loop's slots move on by the same number of bytes each time, so that the first and the last time tell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ..errors import InputError
from ..program import limits
from ..program.access import Accesses, Reading, accesses, expressions, number
from ..program.dtypes import DTYPES
from ..program.kernels import Kernel
from ..program.layout import layout_of
from ..program.limits import Limits
from ..program.program import Foreign, Loop, Program, Step
from ..program.sizes import Size
from ..program.validate_bodies import refuse
from ..program.validate_steps import ALIGNMENT, aligned_slots
from .packing import Words, packed_bytes
from .tables import ROW_COST, WORD_COST

_MOST_PASSED = 4096
"""Of how many sizes it is remembered that calls stay within the buffers."""
_UNIT_NANOSECONDS, _STEP_NANOSECONDS = 50.0, 1000.0


class Bounds:
    """What a program's buffers are, and whether calls stay within them."""

    def __init__(self, program: Program, cpu: Words, most: Limits) -> None:
        # Without the constants, which would stay in memory beside what is packed from them.
        self._program, self._most = dataclasses.replace(program, constants=()), most
        self._reading = Reading(cpu.word, cpu.wide)
        pairs = zip(program.constants, program.packings, strict=True)
        self._constants = [packed_bytes(constant, packing, cpu) for constant, packing in pairs]
        self._kernels = [Known(kernel) for kernel in program.kernels]
        self._sizes = Sizes(program)
        self._passed: set[tuple[tuple[str, int], ...]] = set()
        if sum(self._constants) > most.memory:
            raise _too_much(sum(self._constants), most.memory, "its constants")

    def check(self, dims: Mapping[str, int]) -> None:
        """Raises ArtifactError if a step would leave its buffers, InputError if the call needs too much of anything."""
        sizes = tuple(dims.items())
        if sizes not in self._passed:
            call = _Call(self._program, self._constants, self._kernels, self._sizes, self._reading, dict(dims))
            call.check(self._most)
            if len(self._passed) >= _MOST_PASSED:
                self._passed.clear()
            self._passed.add(sizes)


class Sizes:
    """Where a program's sizes that depend on dims are among those that differ: hundreds are one of a dozen."""

    def __init__(self, program: Program) -> None:
        found = expressions((program.arena_bytes, program.values, program.steps))
        self.places = {one: place for place, alike in enumerate(found.values()) for one in alike}
        self.count = len(found)
        self.fixed: dict[int, tuple[int, int]] = {}
        """Rooms of values, as calls find them out, for which dims do not matter."""


class Known:
    """A kernel, and what it touches with the dims that it had last: steps that share a kernel often share those."""

    def __init__(self, kernel: Kernel) -> None:
        self.layout, self.aligned = layout_of(kernel), aligned_slots(kernel)
        self._kernel, self._sizes, self._units = kernel, expressions(kernel), kernel.units()
        self._last: tuple[list[int], Accesses] | None = None

    def accesses(self, dims: list[int], reading: Reading, where: str) -> Accesses:
        """What it touches where d0, d1, … are `dims`; only those that it uses tell."""
        last = self._last
        if last is not None and (not self._sizes or last[0] == dims):
            return last[1]
        named = {f"d{i}": size for i, size in enumerate(dims)}
        found = accesses(self._kernel, named, reading, where, self._sizes)
        found.nanoseconds += number(self._units, named, where) * _UNIT_NANOSECONDS
        self._last = (dims, found)
        return found


class _Call:
    """A call with these dims."""

    def __init__(
        self,
        program: Program,
        constants: Sequence[int],
        kernels: Sequence[Known],
        sizes: Sizes,
        reading: Reading,
        dims: dict[str, int],
    ) -> None:
        self._program, self._constants, self._kernels, self._reading = program, constants, kernels, reading
        self._sizes, self._dims = sizes, dims
        self._numbers: list[int | None] = [None] * sizes.count
        self._rows = self._table = 0
        self._nanoseconds = 0.0

    def check(self, most: Limits) -> None:
        program = self._program
        for name, size in self._dims.items():
            if not 0 <= size <= limits.MOST_ROWS:
                raise refuse("dims", f"{name} is {size}")
        self._arena = self._at(program.arena_bytes, "arena_bytes")
        if self._arena < 0:
            raise refuse("arena_bytes", f"an arena of {self._arena} bytes")
        self._room = [self._room_of(i) for i in range(len(program.values))]
        held = [*program.outputs, *(state.value for state in program.states)]
        needed = self._arena + sum(self._room[value][1] for value in held)
        self._refuse_memory(needed, most)
        for position, step in enumerate(program.steps):
            where = f"steps[{position}]"
            if isinstance(step, Step):
                self._step(step, where)
            elif isinstance(step, Loop):
                self._loop(step, where)
            elif isinstance(step, Foreign):
                continue
            if self._rows > limits.MOST_TABLE_ROWS:
                raise refuse(where, f"{self._rows} steps to run")
        self._refuse_memory(needed + WORD_COST * self._table + ROW_COST * self._rows, most)
        if self._nanoseconds > most.seconds * 1e9:
            raise InputError(
                f"a call of these sizes is estimated to take {self._nanoseconds / 1e9:.0f} s, the limit is "
                f"{most.seconds:g} s",
                fix="pass smaller inputs",
            )

    def _refuse_memory(self, needed: int, most: Limits) -> None:
        if needed > most.memory:
            raise _too_much(needed, most.memory, "a call of these sizes")

    def _at(self, size: Size, where: str) -> int:
        if isinstance(size, int):
            return size
        place = self._sizes.places[id(size)]
        found = self._numbers[place]
        if found is None:
            found = self._numbers[place] = number(size, self._dims, where)
        return found

    def _room_of(self, index: int) -> tuple[int, int]:
        """The bytes that a slot bound to the value may touch, from where the value begins."""
        fixed = self._sizes.fixed.get(index)
        if fixed is not None:
            return fixed
        value, where = self._program.values[index], f"values[{index}]"
        shape = [self._at(size, where) for size in value.shape]
        if any(size < 0 for size in shape):
            raise refuse(where, f"a negative size in {shape}")
        bytes_ = math.prod(shape) * DTYPES[value.dtype].size
        if value.place == "constant":
            self._sizes.fixed[index] = 0, self._constants[value.index]
            return self._sizes.fixed[index]
        if value.place == "arena":
            offset = self._at(value.offset, where)
            return -offset, self._arena - offset
        if bytes_ > limits.MOST_NUMBER:
            raise refuse(where, f"{bytes_} bytes")
        return 0, bytes_

    def _loop(self, loop: Loop, where: str) -> None:
        times = self._at(loop.count, where)
        if times < 0:
            raise refuse(where, f"{times} times over")
        for i, (step, sizes) in enumerate(zip(loop.steps, loop.advances, strict=True)):
            at = f"{where}.steps[{i}]"
            self._step(step, at, times, [self._at(size, at) for size in sizes])

    def _step(self, step: Step, where: str, times: int = 1, advances: Sequence[int] = ()) -> None:
        known = self._kernels[step.kernel]
        found = known.accesses([self._at(size, where) for size in step.dims], self._reading, where)
        self._rows += times
        self._table += times * known.layout.words
        self._nanoseconds += times * (found.nanoseconds + _STEP_NANOSECONDS)
        begins = [(value, self._at(offset, where)) for value, offset in step.slots]
        if not times:
            return
        for slot in known.aligned:
            value, offset = begins[slot]
            far = (offset - self._room[value][0], *([advances[slot]] if advances else ()))
            if any(size % ALIGNMENT for size in far):
                raise refuse(f"{where} ({step.label[:60]})", f"slot {slot} is not at a multiple of {ALIGNMENT} bytes")
        for touched, what in ((found.reads, "reads"), (found.writes, "writes")):
            for slot, (low, high) in touched.items():
                value, offset = begins[slot]
                least, most = self._room[value]
                low, high = low + offset, high + offset
                if advances:
                    moved = advances[slot] * (times - 1)
                    low, high = low + min(0, moved), high + max(0, moved)
                if low < least or high > most:
                    raise refuse(
                        f"{where} ({step.label[:60]})",
                        f"{what} bytes {low} to {high} of value {value}, which has {least} to {most}",
                    )


def _too_much(needed: int, most: int, what: str) -> InputError:
    return InputError(
        f"{what} would take {needed / 2**20:.0f} MiB of memory, there are {most / 2**20:.0f}",
        fix="pass smaller inputs, or run on a machine with more memory",
    )
