"""`LoadedProgram`: a saved model, ready to run. Nothing of PyTorch is needed, its tensors are welcome."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..codegen.target import Target
from ..errors import InputError, UnsupportedError
from ..program.interface import Given, Interface, Literal, Result, merged
from ..program.limits import Limits
from ..program.program import Dim, Program, Value
from ..program.sizes import SizeExpr, names
from ..report.explanation import Explanation
from ..runtime.binding import Binding, Bound
from ..runtime.executable import Executable
from ..runtime.fork_lock import ForkLock
from ..runtime.packing import aligned
from .arrays import Kind, Taken, kind_of, literal_taken
from .saved import Saved

if TYPE_CHECKING:
    from ..report.profile import Profile, Rehearsal


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, dtype by short name ("f32", "i64", …), and shape in numbers and named dims.

    `ranges` has inclusive bounds of the dims in it, None for no upper one. `literal` is set, and dtype "", for what is
    no tensor but a fixed value.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()
    ranges: Mapping[str, tuple[int, int | None]] = dataclasses.field(default_factory=dict)
    literal: Any = None

    def __str__(self) -> str:
        if not self.dtype:
            return f"{self.name}: {self.literal!r}"
        bounds = [f"{name} {low} … {'∞' if high is None else high}" for name, (low, high) in self.ranges.items()]
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.shape))}]" + (
            f", {', '.join(bounds)}" * bool(bounds)
        )


class LoadedProgram:
    """What `lower86.load` returns. A call takes what the lowered module took, nested as there, positional or by name.

    Results are fresh memory, of the kind of the first array among the arguments, in plain tuples, lists and dicts.
    Any number of threads may call at once; calls of a program with state wait for each other.
    """

    def __init__(self, saved: Saved, target: Target, num_threads: int | None, disk: bool, limits: Limits) -> None:
        program = saved.program
        self._executable = Executable(program, target, num_threads=num_threads, disk=disk, owned=True, limits=limits)
        if not program.dims:
            self._executable.admit({})  # all calls are alike, so what is wrong with them is known now
        # They are packed now; what they were packed from would double the memory.
        self._executable.program = dataclasses.replace(program, constants=())
        self._saved = dataclasses.replace(saved, program=self._executable.program)
        self._interface = saved.interface
        self._binding = Binding(
            self._executable.program, [one.name for one in saved.interface.inputs], self._executable.admit
        )
        self._literals = [None if one.dtype else Literal(one.literal) for one in saved.interface.outputs]
        self._made = [one.dtype for one in saved.interface.outputs if one.dtype]
        self._state = [_aligned_copy(array) for array in saved.state]
        self._lock = ForkLock()
        self._inputs, self._outputs = specs(saved)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Runs the model: NumPy arrays, tensors, or anything with DLPack or the buffer protocol, in CPU memory.

        NumPy has no bf16: such inputs may be uint16 arrays of its bits, such results are, unless tensors were passed.
        Raises InputError for arguments that do not fit, by name, or for an index out of range.
        """
        leaves = self._flattened(arrays, named)
        return self._interface.result.unflatten(iter(self._run(leaves)))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same by flat names, those of `inputs` and `outputs`; fixed values may be left out.

        Raises InputError for a name that is missing or unknown, and as a call does.
        """
        results = self._run(self._interface.leaves(inputs))
        return dict(zip([one.name for one in self._interface.outputs], results, strict=True))

    def profile_run(self, inputs: Mapping[str, Any], *, seconds: float = 2.0) -> Profile:
        """The time of every kernel of such a `run`: see `lower86.profile`."""
        from ..report.profile import measured

        return measured(self._rehearsal(self._interface.leaves(inputs)), seconds)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The flat inputs, in order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The flat results, in order."""
        return self._outputs

    @property
    def program(self) -> Program:
        """The program as plain data, without its constants."""
        return self._executable.program

    @property
    def interface(self) -> Interface:
        """How callers nest its flat inputs and results."""
        return self._interface

    @property
    def target(self) -> Target:
        """What its machine code was made for."""
        return self._executable.target

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the libraries it was lowered and saved with."""
        return self._saved.versions

    @property
    def explanation(self) -> Explanation:
        """What `explain` shows, as data."""
        return self._saved.explanation

    def explain(self) -> Explanation:
        """What became of every quantized operator at lowering; `str()` is a table, as of `lower86.explain`."""
        return self.explanation

    def profile(self, *arrays: Any, seconds: float = 2.0, **named: Any) -> Profile:
        """The time of every kernel on these inputs: see `lower86.profile`."""
        from ..report.profile import profile  # with the code generator, which a call does without

        return profile(self, *arrays, seconds=seconds, **named)

    def named_state(self) -> dict[str, npt.NDArray[Any]]:
        """What calls leave for the next one, by the names of the model's buffers: copies."""
        with self._lock:
            return {state.name: array.copy() for state, array in zip(self.program.states, self._state, strict=True)}

    def reset_state(self) -> None:
        """Gives the state the values that the file has."""
        with self._lock:
            for array, first in zip(self._state, self._saved.state, strict=True):
                np.copyto(array, first)

    def rehearse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Rehearsal:
        """Calls on these inputs for `lower86.profile`, with a state of their own that begins as this one's."""
        return self._rehearsal(self._flattened(args, kwargs))

    def _rehearsal(self, leaves: Sequence[Any]) -> Rehearsal:
        from ..report.profile import Rehearsal

        first = list(self.named_state().values())
        state = [_aligned_copy(array) for array in first]

        def begin() -> None:
            for array, value in zip(state, first, strict=True):
                np.copyto(array, value)

        def call() -> None:
            placed = self._placed(leaves, state)
            self._executable.run(placed.addresses, placed.bound.dims)

        def timed() -> tuple[list[float], Mapping[str, int]]:
            placed = self._placed(leaves, state)
            return self._executable.run_timed(placed.addresses, placed.bound.dims), placed.bound.dims

        return Rehearsal(self._executable, begin, call, timed)

    def __reduce__(self) -> Any:
        raise UnsupportedError(
            "a loaded program cannot be pickled or copied: it holds machine code for this CPU",
            where="pickle, copy",
            fix="pass the path of its file, and load that in the other process",
        )

    def __repr__(self) -> str:
        taken, given = (", ".join(map(str, specs)) for specs in (self._inputs, self._outputs))
        return f"<lower86 program: ({taken}) to ({given})>"

    def _flattened(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The flat inputs of a call; positional arguments may come by name."""
        interface, given, extra = self._interface, list(args), dict(kwargs)
        for name in interface.names[len(given) :]:
            if name not in extra:
                break
            given.append(extra.pop(name))
        try:
            if len(given) != len(interface.names):
                raise ValueError(f"{len(given)} of {len(interface.names)} positional arguments")
            if extra.keys() != set(interface.named.keys):
                raise ValueError(f"by name: {', '.join(map(str, extra)) or 'nothing'}")
            leaves: list[Any] = []
            for name, tree, value in zip(interface.names, interface.positional.children, given, strict=True):
                leaves += tree.flatten(value, name)
            for key, tree in zip(interface.named.keys, interface.named.children, strict=True):
                leaves += tree.flatten(extra[str(key)], str(key))
            return leaves
        except ValueError as problem:
            wanted = ", ".join([*interface.names, *(f"{key}=" for key in interface.named.keys)])
            raise InputError(
                f"the call does not fit: {problem}",
                where=f"the program takes ({wanted})",
                fix="call it as the model was called with example_inputs: same arguments, same nesting",
            ) from problem

    def _placed(self, leaves: Sequence[Any], state: Sequence[npt.NDArray[Any]]) -> _Placed:
        kind: Kind | None = None
        taken = []
        for number, (leaf, wanted) in enumerate(zip(leaves, self._interface.inputs, strict=True)):
            where = f"input {number}"
            if not wanted.dtype:
                taken.append(literal_taken(leaf, wanted, where))
                continue
            own = kind_of(leaf)
            kind = kind or own
            taken.append(own.taken(leaf, wanted, where))
        kind = kind or kind_of(np.empty(0))
        bound = self._binding.bind([one.shape for one in taken])
        results = [kind.empty(shape, dtype) for shape, dtype in zip(bound.shapes, self._made, strict=True)]
        return _Placed(kind, taken, bound, results, state)

    def _run(self, leaves: Sequence[Any]) -> list[Any]:
        """All flat results for all flat inputs."""
        placed = self._placed(leaves, self._state)
        with self._lock if self._state else contextlib.nullcontext():
            self._executable.run(placed.addresses, placed.bound.dims)
        return merged([placed.kind.given(result) for result, _ in placed.results], self._literals, placed.bound.dims)


@dataclasses.dataclass(frozen=True)
class _Placed:
    """The memory of a call, which lives as long as this does, and its dims."""

    kind: Kind
    taken: Sequence[Taken]
    bound: Bound
    results: Sequence[tuple[Any, int]]
    state: Sequence[npt.NDArray[Any]]

    @property
    def addresses(self) -> list[int]:
        """In the order that the program wants."""
        results = [address for _, address in self.results]
        return [*(one.address for one in self.taken), *results, *(one.ctypes.data for one in self.state)]


def _aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    memory = aligned(array.nbytes)[: array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(memory, array)
    return memory


def specs(saved: Saved) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The flat inputs and results of a saved model."""
    program, interface = saved.program, saved.interface
    taken = [program.values[value] for value in program.inputs]
    made = iter([program.values[value] for value in program.outputs])
    inputs = [_spec(one, value, program.dims) for one, value in zip(interface.inputs, taken, strict=True)]
    outputs = [_spec(one, next(made) if one.dtype else None, program.dims) for one in interface.outputs]
    return tuple(inputs), tuple(outputs)


def _spec(one: Given | Result, value: Value | None, dims: Sequence[Dim]) -> TensorSpec:
    if value is None or not one.dtype:
        literal = one.literal
        return TensorSpec(one.name, "", literal=str(literal) if isinstance(literal, SizeExpr) else literal)
    used = {name for size in value.shape for name in names(size)}
    ranges = {dim.name: (dim.low, dim.high) for dim in dims if dim.name in used}
    shape = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSpec(one.name, one.dtype, shape, ranges)
