"""A Program with its machine code: addresses go in, results are written, nothing is allocated once it runs.

Every call in flight has an arena, and tables of words that kernels read their arguments from. The tables are written
once for given dims; a call only fills in where its inputs and outputs are, and the arena, where that is another one.
"""

from __future__ import annotations

import operator
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..codegen.names import kernel_name
from ..codegen.target import Target
from ..errors import InputError
from ..program.limits import Limits
from ..program.program import Check, Foreign, Program, Step
from ..program.sizes import Size, evaluate, rename
from ..program.sizes import names as dims_in
from ..program.validate import validate
from .bounds import Bounds
from .code_cache import objects_for
from .machine_code import MachineCode
from .packing import Allocate, aligned, packed
from .streams import helpers_here
from .tables import NOWHERE, ROW_BYTES, Arena, Tables, Writer
from .threads import default_threads, pool, thread_count

ForeignFunction = Callable[[Sequence[int], Mapping[str, int]], None]
"""Runs a foreign step: gets the addresses of its inputs, then of its outputs, and the dims."""


@dataclass
class _Segment:
    """Steps of the program between two foreign calls, or one foreign call."""

    first: int = 0
    count: int = 0
    foreign: Foreign | None = None


WAITING_BYTES, WAITING_SIZES = 64 << 20, 256
"""How much calls leave for later ones of other sizes, and of how many: sentences come in all lengths, in turns."""


@dataclass
class Executable:
    """Compiles on construction. `run` may be called from several threads at once.

    The program may come from anywhere: what makes no sense, or does not stay within its buffers, is an ArtifactError
    before it is compiled or run; what takes more than `limits`, an InputError.

    `num_threads` is what its calls run on; None leaves that to `default_threads`. Without `disk`, no machine code is
    read from the cache's folder or written there. With `owned`, the program's constants are given up: those that need
    no packing stay where they lie, of all others the elements are undefined afterwards. `allocate` gives the memory of
    what is packed, and of arenas. Raises InputError for what is no number of threads.
    """

    program: Program
    target: Target
    foreign: Sequence[ForeignFunction] = ()
    num_threads: int | None = None
    disk: bool = True
    owned: bool = False
    allocate: Allocate = aligned
    limits: Limits = field(default_factory=Limits.of_machine)
    # What calls left for the next ones: tables by dims, arenas for any dims. Only single operations, which are atomic,
    # and no lock, which a forked child would find held for ever.
    _tables: dict[tuple[int, ...], list[Tables]] = field(default_factory=dict, repr=False)
    _arenas: list[Arena] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        program = self.program
        if self.num_threads is not None:
            self.num_threads = thread_count(self.num_threads, "num_threads")
        validate(program, len(self.foreign))
        self._bounds = Bounds(program, self.target, self.limits)
        self._pool = pool(disk=self.disk)
        self._constants = packed(program.constants, program.packings, self.target, self.allocate, owned=self.owned)
        self._code = MachineCode(objects_for(program.kernels, self.target, disk=self.disk))
        addresses = [self._code.address(kernel_name(kernel)) for kernel in program.kernels]
        self._writer = Writer(program, addresses, [constant.ctypes.data for constant in self._constants])
        self._segments = self._segmented()
        self._io = [*program.inputs, *program.outputs, *(state.value for state in program.states)]
        self._pool.serve(self)

    def _segmented(self) -> list[_Segment]:
        segments: list[_Segment] = []
        for number, step in enumerate(self.program.steps):
            if isinstance(step, Foreign):
                segments.append(_Segment(foreign=step))
                continue
            if not segments or segments[-1].foreign is not None:
                segments.append(_Segment(first=number))
            segments[-1].count += 1
        return segments

    @property
    def regions(self) -> int:
        """How many times a call crosses into native code."""
        return sum(segment.foreign is None for segment in self._segments)

    def admit(self, dims: Mapping[str, int]) -> None:
        """Raises ArtifactError if the program would leave its buffers with these dims, InputError for too large ones.

        A call does this by itself. Whoever makes memory for its outputs does it before.
        """
        self._bounds.check(dims)

    def run(self, addresses: Sequence[int], dims: Mapping[str, int], threads: int | None = None) -> None:
        """Reads the inputs and writes the outputs at `addresses`: inputs, outputs, then state, each contiguous.

        State is what the last run with these addresses left there; only one may be in flight. Raises InputError if the
        data hold an index out of range; the outputs are then undefined.
        """
        tables = self._take(addresses, dims, everything=bool(self.foreign))
        try:
            workers, helpers = threads or self.num_threads or default_threads(), helpers_here(self._pool)
            for segment in self._segments:
                if segment.foreign is not None:
                    involved = [*segment.foreign.inputs, *segment.foreign.outputs]
                    self.foreign[segment.foreign.function]([int(tables.bases[v]) for v in involved], dims)
                    continue
                first, end = tables.rows[segment.first], tables.rows[segment.first + segment.count]
                failed = helpers.run(tables.first + first * ROW_BYTES, end - first, tables.status_at, workers)
                if failed >= 0:
                    self._raise(first + failed, tables)
        finally:
            self._leave(tables)

    def run_timed(self, addresses: Sequence[int], dims: Mapping[str, int], threads: int | None = None) -> list[float]:
        """As `run`, step by step; gives the seconds that each of the program's steps took."""
        times = [time.perf_counter() for _ in self.run_steps(addresses, dims, threads)]
        return [after - before for before, after in pairwise(times)]

    def run_steps(
        self, addresses: Sequence[int], dims: Mapping[str, int], threads: int | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """As `run`, step by step: (-1, where each value lies) before the first one, and the step's number after each.

        A value of the arena is there from the first step that writes it to the last that touches it.
        """
        tables = self._take(addresses, dims, everything=True)
        try:
            workers, helpers = threads or self.num_threads or default_threads(), helpers_here(self._pool)
            yield -1, tables.bases
            for number, (step, (first, end)) in enumerate(zip(self.program.steps, pairwise(tables.rows), strict=True)):
                if isinstance(step, Foreign):
                    involved = [*step.inputs, *step.outputs]
                    self.foreign[step.function]([int(tables.bases[v]) for v in involved], dims)
                else:
                    failed = helpers.run(tables.first + first * ROW_BYTES, end - first, tables.status_at, workers)
                    if failed >= 0:
                        self._raise(first + failed, tables)
                yield number, tables.bases
        finally:
            self._leave(tables)

    def _raise(self, row: int, tables: Tables) -> None:
        status, step = tables.status, self.program.steps[bisect_right(tables.rows, row) - 1]
        raise InputError(
            f"index {int(status[1])} is out of range for a dimension of size {int(status[2])}",
            where=(isinstance(step, Step) and step.source) or step.label,
            fix="check the values of integer inputs (token ids, positions) against the model's tables",
        )

    def _take(self, addresses: Sequence[int], dims: Mapping[str, int], *, everything: bool) -> Tables:
        """Tables of these dims with these addresses in them, and an arena; in `bases`, too, if for `everything`."""
        try:
            tables = self._tables[self._sizes(dims)].pop()
        except (KeyError, IndexError):
            self._bounds.check(dims)
            self._make_room()
            tables = self._writer.tables(dict(dims))
        tables.move_to(self._arena(tables.arena_bytes))
        given = np.array(addresses, np.int64)
        tables.table[tables.words] = given[tables.numbers] + tables.offsets
        if everything:
            tables.bases[self._io] = given
        tables.status[0] = 0
        return tables

    def _leave(self, tables: Tables) -> None:
        # Tables that wait hold no arena: one that is let go of, or replaced by a larger one, has to go.
        self._arenas.append(tables.arena)
        tables.arena = NOWHERE
        # As the latest. What another thread leaves meanwhile may be lost: it is only made anew.
        waiting = self._tables.pop(sizes := self._sizes(tables.dims), [])
        waiting.append(tables)
        self._tables[sizes] = waiting

    def _arena(self, size: int) -> Arena:
        try:
            arena = self._arenas.pop()
        except IndexError:
            return Arena.of(self.allocate, size)
        if arena.size >= size:
            return arena
        del arena  # before there is another one
        return Arena.of(self.allocate, size + size // 4)  # more than was ever asked for, and so may be the next one

    def _make_room(self) -> None:
        """Lets go of what waits for calls, down to the bounds: arenas, and then the tables that have waited longest."""
        # A copy is one operation, which going through the items need not be.
        arenas = sum(arena.size for arena in self._arenas.copy())
        if arenas > WAITING_BYTES:
            self._arenas.clear()
            arenas = 0
        held = {sizes: sum(one.nbytes for one in waiting.copy()) for sizes, waiting in self._tables.copy().items()}
        total = sum(held.values()) + arenas
        for number, (sizes, nbytes) in enumerate(held.items()):
            if total <= WAITING_BYTES and len(held) - number < WAITING_SIZES:
                break
            self._tables.pop(sizes, None)
            total -= nbytes

    def _sizes(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(dims[dim.name] for dim in self.program.dims)


_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def _holds(check: Check, dims: Mapping[str, int]) -> bool:
    try:
        return _RELATIONS[check.relation](evaluate(check.left, dims), evaluate(check.right, dims))
    except ZeroDivisionError:
        return False  # a size too small to be divided as the model divides it


def _fits(declared: Sequence[Size], shape: Sequence[int], dims: Mapping[str, int]) -> bool:
    try:
        return len(shape) == len(declared) and all(
            evaluate(size, dims) == given for size, given in zip(declared, shape, strict=True)
        )
    except ZeroDivisionError:
        return False


def _by_others(
    program: Program, declared: Sequence[Size], names: Sequence[str], dims: Mapping[str, int], number: int
) -> str:
    """What the dims in a shape are, where other inputs have said it."""
    used = {name for size in declared for name in dims_in(size)}
    told = {
        dim.name: names[dim.input]
        for dim in program.dims
        if dim.name in used and dim.input != number and dims[dim.name] >= 0
    }
    inputs = ", ".join(dict.fromkeys(told.values()))
    return f", where {', '.join(f'{name} = {dims[name]}' for name in told)} by {inputs}" if told else ""


def bind_dims(program: Program, shapes: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, int]:
    """The dims' values from the inputs' shapes. Raises InputError for a wrong shape, naming the input and the bound."""
    dims: dict[str, int] = {}
    for dim in program.dims:
        shape = shapes[dim.input]
        dims[dim.name] = (shape[dim.axis] - dim.offset) // dim.factor if dim.axis < len(shape) else -1
    for number, (value, shape) in enumerate(zip(program.inputs, shapes, strict=True)):
        declared = program.values[value].shape
        if not _fits(declared, shape, dims):
            expected = ", ".join(str(size) for size in declared)
            raise InputError(
                f"{names[number]} has shape {list(shape)}, the program takes [{expected}]"
                + _by_others(program, declared, names, dims, number),
                where=f"input {number}",
                fix="pass the shape the model was lowered with, or lower it again with dynamic_shapes",
            )
    for dim in program.dims:
        size = dims[dim.name]
        if size < dim.low or (dim.high is not None and size > dim.high):
            bound = f"{dim.low} … {'∞' if dim.high is None else dim.high}"
            plain_size = (dim.factor, dim.offset) == (1, 0)
            name = f"{names[dim.input]}.shape[{dim.axis}]" if plain_size else dim.name
            raise InputError(
                f"{name} is {size}, outside its range {bound}",
                where=f"{names[dim.input]}, axis {dim.axis}",
                fix="stay within the range given to dynamic_shapes, or lower again with a wider one",
            )
    for check in program.checks:
        if not _holds(check, dims):
            plain = {dim.name: (dim.factor, dim.offset) == (1, 0) for dim in program.dims}
            where = {d.name: f"{names[d.input]}.shape[{d.axis}]" if plain[d.name] else d.name for d in program.dims}
            left, right = (str(rename(side, where)) for side in (check.left, check.right))
            given = ", ".join(f"{where[name]} = {size}" for name, size in dims.items())
            raise InputError(
                f"the model takes only inputs with {left} {check.relation} {right}",
                where=f"{check.reason}, with {given}" if check.reason else given,
                fix="pass inputs whose sizes fit each other, or lower the model again with an example of this kind",
            )
    return dims
