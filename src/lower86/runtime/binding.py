"""What follows from the shapes of a call's inputs: the dims, and the shapes of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..program.program import Program
from ..program.sizes import evaluate
from .executable import bind_dims


@dataclass(frozen=True)
class Bound:
    """The dims of a call, and the shapes of the program's outputs."""

    dims: Mapping[str, int]
    shapes: list[list[int]]


class Binding:
    """Binds calls of one program; what the last one had is at hand. Several threads may use it at once.

    `admit` is asked about new dims before anything else is computed from them, and may raise.
    """

    def __init__(
        self, program: Program, names: Sequence[str], admit: Callable[[Mapping[str, int]], None] | None = None
    ) -> None:
        self._program, self._names, self._admit = program, list(names), admit
        self._shapes = [program.values[value].shape for value in program.outputs]
        self._last: tuple[list[tuple[int, ...]], Bound] | None = None

    def bind(self, shapes: list[tuple[int, ...]]) -> Bound:
        """For inputs of these shapes. Raises InputError for a wrong one, by the input's name."""
        last = self._last
        if last is not None and last[0] == shapes:
            return last[1]
        dims = bind_dims(self._program, shapes, self._names)
        if self._admit is not None:
            self._admit(dims)
        bound = Bound(dims, [[evaluate(size, dims) for size in shape] for shape in self._shapes])
        self._last = (shapes, bound)
        return bound
