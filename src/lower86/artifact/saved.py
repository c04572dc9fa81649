"""What a file of `lower86.save` means: the program, how it is called, its state, and what is known about it.

In the metadata: "format", "version", and as JSON "program", "interface", "explanation", "versions". The program's
constants are the tensors "0", "1", …, but for those that "tied", if it is there, says are another one's memory; the
state begins as "state.0", "state.1", …, as zeros where there is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArtifactError
from ..program.decode import program_from_json
from ..program.dtypes import DTYPES
from ..program.interface import Interface
from ..program.program import Program, Value
from ..program.validate import validate
from ..report.explanation import Explanation
from .explanation import explanation_from_json, explanation_to_json
from .fields import Field
from .format import MOST_TENSORS, Contents, Stored
from .interface import interface_from_json, interface_to_json
from .strict_json import SAVE_AGAIN, parse

FORMAT = "lower86"
VERSION = 1
"""Of the file: what its metadata and tensors are. The program's JSON has a version of its own."""


@dataclass(frozen=True)
class Saved:
    """A model as plain data; `state` has what each of the program's states holds, in order."""

    program: Program
    interface: Interface
    explanation: Explanation
    state: tuple[npt.NDArray[Any], ...]
    versions: Mapping[str, str]


def to_contents(saved: Saved) -> tuple[dict[str, str], dict[str, Stored]]:
    """Metadata and tensors of the file."""
    tied = _tied(saved.program.constants)
    parts = {
        "program": saved.program.to_json(),
        "interface": interface_to_json(saved.interface),
        "explanation": explanation_to_json(saved.explanation),
        "versions": dict(saved.versions),
    }
    if tied:
        parts["tied"] = {str(number): first for number, first in tied.items()}
    metadata = {"format": FORMAT, "version": str(VERSION)}
    metadata |= {name: json.dumps(part, separators=(",", ":"), allow_nan=False) for name, part in parts.items()}
    tensors = {
        str(number): Stored(_dtype_of(number, saved.program, constant), np.asarray(constant))
        for number, constant in enumerate(saved.program.constants)
        if number not in tied
    }
    left = _room_for_zeros(saved.program.constants)
    for number, (state, array) in enumerate(zip(saved.program.states, saved.state, strict=True)):
        left -= array.nbytes
        if left < 0 or array.reshape(-1).view(np.uint8).any():
            tensors[f"state.{number}"] = Stored(saved.program.values[state.value].dtype, array)
    return metadata, tensors


def _room_for_zeros(constants: Sequence[npt.NDArray[Any]]) -> int:
    """Bytes of state that a file may ask for without holding them, so that a small file never takes all memory."""
    return (64 << 20) + 16 * sum(constant.nbytes for constant in constants)


def _tied(constants: Sequence[npt.NDArray[Any]]) -> dict[int, int]:
    """Constants that are another's memory under a second number, such as a table that is a linear's weight too."""
    first: dict[Any, int] = {}
    found = {}
    for number, constant in enumerate(constants):
        if constant.nbytes and constant.flags.c_contiguous:
            same = first.setdefault((constant.ctypes.data, constant.dtype, constant.shape), number)
            if same != number:
                found[number] = same
    # As much as `_constants` admits when it reads them.
    held = sum(constant.nbytes for number, constant in enumerate(constants) if number not in found)
    for number in list(found):
        if constants[number].nbytes > held:
            del found[number]
            held += constants[number].nbytes
        else:
            held -= constants[number].nbytes
    return found


def _dtype_of(number: int, program: Program, constant: npt.NDArray[Any]) -> str:
    """The dtype that the program reads a constant as; NumPy alone could not say which are bf16."""
    for value in program.values:
        if value.place == "constant" and value.index == number:
            return value.dtype
    names = {dtype.numpy: name for name, dtype in DTYPES.items() if name != "bf16"} | {np.dtype("uint16"): "u16"}
    return names[constant.dtype]


def from_contents(contents: Contents, name: str) -> Saved:
    """What a file means, all of it checked; `name` is the file's. Raises ArtifactError: what is wrong, and where."""
    metadata = contents.metadata
    if metadata.get("format") != FORMAT:
        raise ArtifactError(
            "it is a safetensors file that lower86.save has not written",
            where=f"{name}, __metadata__.format",
            fix="pass what lower86.save wrote; weights alone are no program",
        )
    if metadata.get("version") != str(VERSION):
        raise ArtifactError(
            f"it has version {metadata.get('version')!r:.20}, this lower86 reads {VERSION}",
            where=f"{name}, __metadata__.version",
            fix="install the lower86 that wrote it (see `lower86 inspect`), or save the model again with this one",
        )
    parts = {part: _parsed(metadata, part, name) for part in ("program", "interface", "explanation", "versions")}
    ties = _ties(_parsed(metadata, "tied", name)) if "tied" in metadata else {}
    constants = _constants(contents.tensors, ties, name)
    program = decoded(parts["program"].value, constants, name)
    return Saved(
        program,
        interface_from_json(parts["interface"], program),
        explanation_from_json(parts["explanation"], program),
        _state(program, contents.tensors, name),
        _versions(parts["versions"]),
    )


def decoded(data: Any, constants: Sequence[npt.NDArray[Any]], name: str) -> Program:
    """The program that JSON and constants describe."""
    try:
        program = program_from_json(data, constants)
        validate(program)
    except ArtifactError as problem:
        where = f"{name}, program: {problem.where}"
        raise ArtifactError(problem.what, where=where, fix=problem.fix or SAVE_AGAIN) from problem
    return program


def _parsed(metadata: Mapping[str, str], part: str, name: str) -> Field:
    where = f"{name}, __metadata__.{part}"
    if part not in metadata:
        raise ArtifactError("it is not there", where=where, fix=SAVE_AGAIN)
    return Field(parse(metadata[part].encode("utf-8", "surrogatepass"), where), where)


def _ties(field: Field) -> dict[str, str]:
    """Names of constants that the file holds under an earlier one's name, and those."""
    if not isinstance(field.value, dict) or len(field.value) >= MOST_TENSORS:
        field.refuse("an object of constants by the number of the one that each is tied to")
    found = {name: Field(first, f"{field.where}.{name}").whole(0, MOST_TENSORS) for name, first in field.value.items()}
    return {name: str(first) for name, first in found.items()}


def _constants(tensors: Mapping[str, Stored], ties: Mapping[str, str], name: str) -> list[npt.NDArray[Any]]:
    """Tensors "0", "1", … without a gap, tied ones at their own places."""
    numbered = {key: stored.array for key, stored in tensors.items() if not key.startswith("state.")}
    held = sum(array.nbytes for array in numbered.values())
    for key, first in ties.items():
        if key in numbered or first not in tensors:
            raise ArtifactError(
                f"{key!r:.60} is said to be {first!r}, which is not so",
                where=f"{name}, __metadata__.tied",
                fix=SAVE_AGAIN,
            )
        held -= tensors[first].array.nbytes
        if held < 0:  # each may be laid out in memory of its own, and a small file must not take all there is
            raise ArtifactError("more is tied than the file holds", where=f"{name}, __metadata__.tied", fix=SAVE_AGAIN)
    numbered |= {key: tensors[first].array for key, first in ties.items()}
    wanted = [str(number) for number in range(len(numbered))]
    if set(numbered) != set(wanted):
        odd = min(set(numbered) - set(wanted))
        raise ArtifactError(
            f"a tensor is named {odd!r:.60}, where {len(numbered)} constants are named 0 to {len(numbered) - 1}",
            where=name, fix=SAVE_AGAIN,
        )  # fmt: skip
    return [numbered[key] for key in wanted]


def _state(program: Program, tensors: Mapping[str, Stored], name: str) -> tuple[npt.NDArray[Any], ...]:
    known = {f"state.{number}" for number in range(len(program.states))}
    unknown = {key for key in tensors if key.startswith("state.")} - known
    if unknown:
        raise ArtifactError(f"there is no {min(unknown)!r:.60} in the program", where=name, fix=SAVE_AGAIN)
    found: list[npt.NDArray[Any]] = []
    left = _room_for_zeros(program.constants)
    for number, state in enumerate(program.states):
        value, key = program.values[state.value], f"state.{number}"
        shape, dtype = _state_shape(value, f"{name}, {key}"), DTYPES[value.dtype]
        size = math.prod(shape) * dtype.size
        left -= size
        if key not in tensors and left < 0:
            raise ArtifactError(f"{size} bytes of state that it does not hold", where=f"{name}, {key}", fix=SAVE_AGAIN)
        found.append(np.zeros(shape, dtype.numpy) if key not in tensors else tensors[key].array)
        if key in tensors and (tensors[key].dtype, tensors[key].array.shape) != (value.dtype, value.shape):
            raise ArtifactError(
                f"it is {tensors[key].dtype} of {list(tensors[key].array.shape)}, the program's is {value.dtype} of "
                f"{[str(size) for size in value.shape]}",
                where=f"{name}, tensor {key!r}", fix=SAVE_AGAIN,
            )  # fmt: skip
    return tuple(found)


def _state_shape(value: Value, where: str) -> list[int]:
    sizes = [size for size in value.shape if isinstance(size, int) and size >= 0]
    if len(sizes) != len(value.shape):
        raise ArtifactError("state of a size that varies", where=where, fix=SAVE_AGAIN)
    if max(sizes, default=0) > 1 << 46:
        raise ArtifactError(f"state of shape {sizes}", where=where, fix=SAVE_AGAIN)
    return sizes


def _versions(field: Field) -> dict[str, str]:
    if not isinstance(field.value, dict) or len(field.value) > 64:
        field.refuse("an object of versions by name")
    return {name: Field(value, f"{field.where}.{name}").text() for name, value in field.value.items()}
