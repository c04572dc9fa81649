"""A Program with its machine code: addresses go in, results are written, nothing is allocated once it runs.

Every call in flight has an `_Instance`: an arena, and the tables of words that kernels read their arguments from. The
tables are written once for given dims; a call only fills in where its inputs and outputs are.
"""

from __future__ import annotations

import operator
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from ..codegen.names import kernel_name
from ..codegen.target import Target
from ..errors import InputError
from ..program.layout import layout_of
from ..program.limits import Limits
from ..program.program import Check, Foreign, Loop, Program, Step
from ..program.sizes import Size, evaluate, rename
from ..program.sizes import names as size_names
from ..program.validate import validate
from .bounds import Bounds
from .code_cache import objects_for
from .machine_code import MachineCode
from .packing import Allocate, aligned, packed
from .streams import helpers_here
from .threads import default_threads, pool, thread_count

ForeignFunction = Callable[[Sequence[int], Mapping[str, int]], None]
"""Runs a foreign step: gets the addresses of its inputs, then of its outputs, and the dims."""


@dataclass
class _Segment:
    """Steps of the program between two foreign calls, or one foreign call."""

    first: int = 0
    count: int = 0
    foreign: Foreign | None = None


@dataclass
class _Instance:
    """What one call needs to itself."""

    dims: dict[str, int]
    arena: npt.NDArray[np.uint8]
    table: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    rows: list[int]
    """The row of the step table where each of the program's steps begins, and where the last one ends."""
    bases: npt.NDArray[np.int64]
    status: npt.NDArray[np.int64]
    # Words of the table that depend on the call's own addresses: where, which of them, how far beyond it.
    words: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    first: int  # address of `steps`
    status_at: int

    @property
    def nbytes(self) -> int:
        """Of memory that it holds."""
        return self.arena.nbytes + self.table.nbytes + self.steps.nbytes


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
    # By dims: what calls left there for the next ones. Only single operations, which are atomic, and no lock, which a
    # forked child would find held for ever.
    _free: dict[tuple[int, ...], list[_Instance]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        program = self.program
        if self.num_threads is not None:
            self.num_threads = thread_count(self.num_threads, "num_threads")
        validate(program, len(self.foreign))
        self._bounds = Bounds(program, self.target, self.limits)
        self._pool = pool(disk=self.disk)
        self._constants = packed(program.constants, program.packings, self.target, self.allocate, owned=self.owned)
        self._code = MachineCode(objects_for(program.kernels, self.target, disk=self.disk))
        self._addresses = [self._code.address(kernel_name(kernel)) for kernel in program.kernels]
        self._layouts = [layout_of(kernel) for kernel in program.kernels]
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
        instance = self._take(dict(dims))
        try:
            given = np.array(addresses, np.int64)
            instance.table[instance.words] = given[instance.numbers] + instance.offsets
            if self.foreign:
                instance.bases[self._io] = given
            instance.status[0] = 0
            workers, helpers = threads or self.num_threads or default_threads(), helpers_here(self._pool)
            for segment in self._segments:
                if segment.foreign is not None:
                    involved = [*segment.foreign.inputs, *segment.foreign.outputs]
                    self.foreign[segment.foreign.function]([int(instance.bases[v]) for v in involved], dims)
                    continue
                first, end = instance.rows[segment.first], instance.rows[segment.first + segment.count]
                failed = helpers.run(instance.first + first * 32, end - first, instance.status_at, workers)
                if failed >= 0:
                    self._raise(first + failed, instance)
        finally:
            self._leave(instance)

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
        instance = self._take(dict(dims))
        try:
            given = np.array(addresses, np.int64)
            instance.table[instance.words] = given[instance.numbers] + instance.offsets
            instance.bases[self._io] = given
            instance.status[0] = 0
            workers, helpers = threads or self.num_threads or default_threads(), helpers_here(self._pool)
            yield -1, instance.bases
            for number, (step, (first, end)) in enumerate(
                zip(self.program.steps, pairwise(instance.rows), strict=True)
            ):
                if isinstance(step, Foreign):
                    involved = [*step.inputs, *step.outputs]
                    self.foreign[step.function]([int(instance.bases[v]) for v in involved], dims)
                else:
                    failed = helpers.run(instance.first + first * 32, end - first, instance.status_at, workers)
                    if failed >= 0:
                        self._raise(first + failed, instance)
                yield number, instance.bases
        finally:
            self._leave(instance)

    def _raise(self, row: int, instance: _Instance) -> None:
        status, step = instance.status, self.program.steps[bisect_right(instance.rows, row) - 1]
        raise InputError(
            f"index {int(status[1])} is out of range for a dimension of size {int(status[2])}",
            where=(isinstance(step, Step) and step.source) or step.label,
            fix="check the values of integer inputs (token ids, positions) against the model's tables",
        )

    def _take(self, dims: dict[str, int]) -> _Instance:
        try:
            return self._free[self._sizes(dims)].pop()
        except (KeyError, IndexError):
            pass
        self._make_room()
        return self._instance(dims)

    def _make_room(self) -> None:
        """Lets go of what waits for other sizes, oldest first, down to the bounds."""
        # A copy is one operation, which going through the items need not be.
        held = {sizes: sum(one.nbytes for one in instances.copy()) for sizes, instances in self._free.copy().items()}
        total = sum(held.values())
        for number, (sizes, nbytes) in enumerate(held.items()):
            if total <= WAITING_BYTES and len(held) - number < WAITING_SIZES:
                break
            self._free.pop(sizes, None)
            total -= nbytes

    def _leave(self, instance: _Instance) -> None:
        self._free.setdefault(self._sizes(instance.dims), []).append(instance)

    def _sizes(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(dims[dim.name] for dim in self.program.dims)

    def _instance(self, dims: dict[str, int]) -> _Instance:
        program = self.program
        self._bounds.check(dims)
        arena = self.allocate(evaluate(program.arena_bytes, dims))
        bases = np.zeros(len(program.values), np.int64)
        for i, value in enumerate(program.values):
            if value.place == "arena":
                bases[i] = arena.ctypes.data + evaluate(value.offset, dims)
            elif value.place == "constant":
                bases[i] = self._constants[value.index].ctypes.data
        repeats = [_repeat(step, dims) for step in program.steps]
        rows = [0, *accumulate(repeat.times * len(repeat.steps) for repeat in repeats)]
        words_of = [sum(self._layouts[step.kernel].words for step in repeat.steps) * repeat.times for repeat in repeats]
        table = np.zeros(sum(words_of), np.int64)
        steps = np.zeros((rows[-1], 4), np.int64)
        status = np.zeros(3, np.int64)
        moving = [np.zeros((0, 3), np.int64)]
        word = 0
        for first, repeat in zip(rows, repeats, strict=False):
            times = np.arange(repeat.times)
            for i, (step, advances) in enumerate(zip(repeat.steps, repeat.advances, strict=True)):
                kernel, layout = program.kernels[step.kernel], self._layouts[step.kernel]
                local = {f"d{i}": evaluate(size, dims) for i, size in enumerate(step.dims)}
                # A row of words for each time, in which only slots that advance differ.
                words = table[word : word + repeat.times * layout.words].reshape(repeat.times, layout.words)
                starts = word + times * layout.words
                mine = steps[first + i : first + repeat.times * len(repeat.steps) : len(repeat.steps)]
                mine[:, 0] = self._addresses[step.kernel]
                mine[:, 1] = table.ctypes.data + 8 * starts
                mine[:, 2] = evaluate(kernel.units(), local)
                words[:, 0] = status.ctypes.data
                for slot, ((number, offset), advance) in enumerate(zip(step.slots, advances, strict=True)):
                    bytes_in = evaluate(offset, dims) + times * advance
                    words[:, 1 + slot] = bases[number] + bytes_in
                    if program.values[number].place in ("input", "output", "state"):
                        index = np.full_like(times, self._io.index(number))
                        moving.append(np.stack([starts + 1 + slot, index, bytes_in], axis=1))
                place = 1 + layout.slots
                for given in (*(local[name] for name in layout.dims), *(_word(*param) for param in step.params)):
                    words[:, place] = given
                    place += 1
                word += words.size
        columns = np.concatenate(moving)
        moved, numbers, offsets = (columns[:, i].copy() for i in range(3))
        places = steps.ctypes.data, status.ctypes.data
        return _Instance(dims, arena, table, steps, rows, bases, status, moved, numbers, offsets, *places)


@dataclass(frozen=True)
class _Repeat:
    """Native steps, how often they run, and how many bytes each slot advances every time."""

    times: int
    steps: tuple[Step, ...]
    advances: tuple[tuple[int, ...], ...]


def _repeat(step: Step | Loop | Foreign, dims: Mapping[str, int]) -> _Repeat:
    if isinstance(step, Step):
        return _Repeat(1, (step,), ((0,) * len(step.slots),))
    if isinstance(step, Foreign):
        return _Repeat(0, (), ())
    advances = tuple(tuple(evaluate(size, dims) for size in sizes) for sizes in step.advances)
    return _Repeat(evaluate(step.count, dims), step.steps, advances)


_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def _holds(check: Check, dims: Mapping[str, int]) -> bool:
    try:
        return _RELATIONS[check.relation](evaluate(check.left, dims), evaluate(check.right, dims))
    except ZeroDivisionError:
        return False  # a size too small to be divided as the model divides it


def _word(dtype: str, value: float) -> int:
    """A param as the 64-bit word that kernels load it from."""
    if dtype == "f32":
        return int(struct.unpack("<I", struct.pack("<f", np.float32(value)))[0])
    if dtype == "f64":
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)


def _fits(declared: Sequence[Size], shape: Sequence[int], dims: Mapping[str, int]) -> bool:
    try:
        return len(shape) == len(declared) and all(
            evaluate(size, dims) == given for size, given in zip(declared, shape, strict=True)
        )
    except ZeroDivisionError:
        return False


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
            used = {name for size in declared for name in size_names(size)}
            known = [d for d in program.dims if d.name in used and d.axis < len(shapes[d.input])]
            told = [
                f"{d.name} follows from {names[d.input]}.shape[{d.axis}] = {shapes[d.input][d.axis]}" for d in known
            ]
            raise InputError(
                f"{names[number]} has shape {list(shape)}, the program takes [{expected}]",
                where="; ".join((f"input {number}", *told)),
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
