"""A whole lowered model as data: values and where they live, kernels, steps in order.

A `Program` holds no pointers, no code and nothing of torch. `to_json` and `decode.program_from_json` are exact
inverses.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import sizes
from .kernels import Kernel
from .sizes import Size

VERSION = 1
"""Version of the JSON form."""


@dataclass(frozen=True)
class Dim:
    """A named dim: inclusive bounds, and the input axis that tells its value: its size is `factor · dim + offset`."""

    name: str
    low: int
    high: int | None
    input: int
    axis: int
    factor: int = 1
    offset: int = 0


@dataclass(frozen=True)
class Check:
    """What must hold between sizes: `relation` is one of ==, !=, <, <=.

    `reason` says what in the model asks for it, "" if nobody knows. Checks of one condition are equal.
    """

    left: Size
    relation: str
    right: Size
    reason: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True)
class Value:
    """A tensor: contiguous, at `place`.

    `place` is "input", "output", "state" or "constant" with its number in `index`, or "arena" with `offset` in bytes.
    """

    dtype: str
    shape: tuple[Size, ...]
    place: str
    index: int = 0
    offset: Size = 0


@dataclass(frozen=True)
class Step:
    """Runs kernel number `kernel`: `slots` are (value, byte offset); `dims` are the sizes its dims d0, d1, … have.

    `source` says where in the model the indices are read that the step may find out of range.
    """

    kernel: int
    slots: tuple[tuple[int, Size], ...]
    dims: tuple[Size, ...]
    params: tuple[tuple[str, float], ...]
    label: str
    source: str = ""


@dataclass(frozen=True)
class Loop:
    """Runs `steps` in order, `count` times over.

    `advances` has for each step and each of its slots how many bytes further the slot begins every next time.
    """

    count: Size
    steps: tuple[Step, ...]
    advances: tuple[tuple[Size, ...], ...]
    label: str


@dataclass(frozen=True)
class Foreign:
    """Calls back into the framework: function number `function`, which reads and writes the values named."""

    function: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class State:
    """A value that a call finds as the last one left it, by the name its owner has for it. One call at a time."""

    name: str
    value: int


@dataclass(frozen=True)
class Packing:
    """How a constant is laid out for the CPU at load: "none", "int8_panels", "float_panels", "bf16_panels" or
    "depthwise".

    Of a depthwise weight, `run` is how many taps a row has, `shared` whether neighbouring outputs share columns.
    """

    kind: str = "none"
    run: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Program:
    """Everything needed to run, but for the constants' bytes, which `constants` holds beside it."""

    dims: tuple[Dim, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step | Loop | Foreign, ...]
    arena_bytes: Size
    packings: tuple[Packing, ...]
    constants: tuple[npt.NDArray[Any], ...] = dataclasses.field(compare=False, repr=False)
    checks: tuple[Check, ...] = ()
    states: tuple[State, ...] = ()

    def to_json(self) -> Any:
        """Plain lists, dicts, numbers and strings; the constants' bytes are not part of it."""
        fields = {f.name: _encode(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "constants"}
        return {"version": VERSION, **fields}


def _encode(value: Any) -> Any:
    if isinstance(value, sizes.SizeExpr):
        return {"size": sizes.to_json(value)}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = [_encode(getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {type(value).__name__: fields}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON has no infinity
    return value


def native_steps(program: Program) -> list[Step]:
    """The steps that run in generated code, in order, each of a loop's once."""
    found: list[Step] = []
    for step in program.steps:
        found += [step] if isinstance(step, Step) else step.steps if isinstance(step, Loop) else ()
    return found


def constant_bytes(program: Program) -> int:
    """Bytes of all constants in their canonical form."""
    return int(sum(np.asarray(c).nbytes for c in program.constants))
