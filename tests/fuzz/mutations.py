"""A valid program's data, changed here and there: numbers to nasty ones, entries dropped, doubled, swapped, replaced.

A case is a few small integers, so that it can be printed, sent to another process and made smaller.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lower86.program.program import Program


@dataclass(frozen=True)
class Edit:
    """One change: what is done, at which place of the data, with which of the possible replacements."""

    kind: str
    place: int
    choice: int


@dataclass(frozen=True)
class Case:
    """A program by name, what is changed of it, and what decides the sizes and numbers that it is run with."""

    program: str
    edits: tuple[Edit, ...]
    call: int


_NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 15, 16, 17, 31, 63, 64, 65, 100, 127, 255, 256, 511, 4096, 65535, -2, -16, -64, 2**20, 2**24,
    2**31 - 1, 2**31, 2**32, 2**40, 2**46, 2**61, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**70), 10**30,
    0.5, 1e-45, 3.5e38, 1e300, -1.0, float("nan"), float("inf"), True, None, "1", [], {},
    {"float": "nan"}, {"float": "inf"}, {"float": "-inf"}, {"float": "1"},
)  # fmt: skip
_RELATIVE: Sequence[Callable[[Any], Any]] = (
    lambda n: n + 1, lambda n: n - 1, lambda n: -n, lambda n: n * 2, lambda n: n // 2, lambda n: n * 64,
    lambda n: n + 64, lambda n: n - 64, lambda n: n * n, lambda n: n + 0.5, lambda n: n * 1000003,
)  # fmt: skip


def _nested(depth: int) -> Any:
    size: Any = [[1, ["d0"]]]
    for _ in range(depth):
        size = [[1, [[size, 3]]]]
    return size


_SIZES = (
    [[1, ["d0"]]], [[1, ["d1"]]], [[-1, ["d0"]]], [[1, ["d9"]]], [[1, ["b"]]], [[1, ["n"]]], [[2, ["b"]], [-1, []]],
    [[1, [[1, [[1, ["d0"]]]]]]], [[1, [[[[1, ["d0"]]], 0]]]], [[1, [[[[1, ["d0"]]], -1]]]], [[1, [[[[1, ["d0"]]], 2]]]],
    [[1, [[7, [[1, ["d0"]], [-1, []]]]]]], [[2**62, ["d0", "d0"]]], [[2**40, ["b"]]], [], [[5, []]],
    [[1, ["d0"] * 8]], [[1, ["d0"] * 9]], [[i + 1, [f"d{i}"]] for i in range(64)], _nested(7), _nested(9), _nested(60),
    [[i + 1, [f"d{i}"]] for i in range(2000)],
)  # fmt: skip

KINDS = (
    *("other",) * 5, *("near",) * 3, *("number",) * 2, "size", "text", "replace", "drop", "double", "swap", "constant",
)  # fmt: skip
"""What an edit may do; "other" is another value from the same field of any program."""


def edits() -> st.SearchStrategy[Edit]:
    return st.builds(Edit, st.sampled_from(KINDS), st.integers(0, 1 << 20), st.integers(0, 1 << 20))


def cases(names: Sequence[str]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case, st.sampled_from(names), st.lists(edits(), min_size=1, max_size=3).map(tuple), st.integers(0, 1 << 20)
    )


class Mutator:
    """Applies cases to the programs that they name."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.programs = programs
        self._data = {name: json.loads(json.dumps(program.to_json())) for name, program in programs.items()}
        words: dict[str, None] = {}
        fields: dict[str, dict[str, Any]] = {}
        for data in self._data.values():
            for *_, part, field in _walk(data):
                if isinstance(part, str):
                    words[part] = None
                fields.setdefault(field, {}).setdefault(json.dumps(part), part)
        self._words = [*words, "", "x" * 5000, "f8", "\ud800"]
        self._fields = {field: list(parts.values()) for field, parts in fields.items()}
        self._parts = [part for parts in self._fields.values() for part in parts if isinstance(part, dict)]

    def apply(self, case: Case) -> tuple[Any, list[Any]]:
        """The changed data, and constants."""
        data = copy.deepcopy(self._data[case.program])
        constants = list(self.programs[case.program].constants)
        for edit in case.edits:
            if edit.kind == "constant":
                _change_constant(constants, edit)
            else:
                self._change(data, edit)
        return data, constants

    def _change(self, data: Any, edit: Edit) -> None:
        wanted: Callable[[Any], bool] = {
            "number": _is_number, "near": lambda part: type(part) is int,
            "size": lambda part: type(part) is int or (isinstance(part, dict) and "size" in part),
            "text": lambda part: isinstance(part, str), "replace": lambda part: isinstance(part, dict),
            "other": lambda part: True,
        }.get(edit.kind, lambda part: isinstance(part, list) and len(part) > 0)  # fmt: skip
        places = [(holder, key, part, field) for holder, key, part, field in _walk(data) if wanted(part)]
        if not places:
            return
        holder, key, part, field = places[edit.place % len(places)]
        pick = edit.choice
        match edit.kind:
            case "other":
                others = self._fields.get(field) or self._parts
                holder[key] = copy.deepcopy(others[pick % len(others)])
            case "number":
                holder[key] = copy.deepcopy(_NUMBERS[pick % len(_NUMBERS)])
            case "near":
                holder[key] = _RELATIVE[pick % len(_RELATIVE)](part)
            case "size":
                holder[key] = {"size": copy.deepcopy(_SIZES[pick % len(_SIZES)])}
            case "text":
                holder[key] = self._words[pick % len(self._words)]
            case "replace":
                holder[key] = copy.deepcopy(self._parts[pick % len(self._parts)])
            case "drop":
                del part[pick % len(part)]
            case "double":
                part.insert(pick % len(part), copy.deepcopy(part[pick // 7 % len(part)]))
            case "swap":
                one, two = pick % len(part), pick // 7 % len(part)
                part[one], part[two] = part[two], part[one]


def _is_number(part: Any) -> bool:
    return isinstance(part, (int, float)) and not isinstance(part, bool)


def _walk(data: Any, field: str = "") -> Iterator[tuple[Any, Any, Any, str]]:
    """Every part of the data, with what holds it, under which key, and the field it is or is in."""
    for key, part in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(data, dict):
            inner = str(key)
        else:
            inner = f"{field}.{key}" if field[:1].isupper() and "." not in field else f"{field}[]"
        yield data, key, part, inner
        if isinstance(part, (dict, list)):
            yield from _walk(part, inner)


def _change_constant(constants: list[Any], edit: Edit) -> None:
    if not constants:
        return
    place = edit.place % len(constants)
    constant = constants[place]
    match edit.choice % 8:
        case 0:
            del constants[place]
        case 1:
            constants.append(constant)
        case 2:
            constants[place] = constant.reshape(-1)[: constant.size // 2]
        case 3:
            constants[place] = constant[None]
        case 4:
            constants[place] = constant.astype(np.float64)
        case 5:
            constants[place] = np.frombuffer(b"\xff" * constant.nbytes, constant.dtype)
        case 6:
            constants[place] = constant.T
        case 7:
            constants[place] = np.frombuffer(np.random.default_rng(edit.choice).bytes(constant.nbytes), constant.dtype)
