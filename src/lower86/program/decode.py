"""A Program from plain data that may come from anywhere: the exact inverse of `Program.to_json`, and nothing else.

What each field may hold follows from the dataclasses' own annotations. A field too many or too few, a bool for an int,
a name nobody knows: each is an `ArtifactError` that says where in the data it stands. What is read is as large as what
was given, never larger; whether it makes sense as a program is for `validate` to say.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy.typing as npt

from ..errors import ArtifactError
from . import sizes
from .program import VERSION, Program

MOST_TERMS = 64
"""Terms of a size."""
MOST_ATOMS = 8
"""Factors of a term."""
MOST_NESTED = 8
"""Floor divisions within each other, and tuples within an attribute."""
MOST_PARTS = 256
"""Terms and factors of a size, those of its floor divisions included."""
MOST_TEXT = 4096
"""Characters of a name or a label."""
WORD = 1 << 63
"""Integers are those of 64 bits."""

Decoder = Callable[[Any], Any]


class _Problem(Exception):
    """What is wrong; the path to it grows as the error comes out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what, self.path = what, ""


def program_from_json(data: Any, constants: Sequence[npt.NDArray[Any]]) -> Program:
    """The program that `to_json` gave, with the constants it had. Raises ArtifactError for any other data."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ArtifactError("not a program: no JSON object", where="program")
    version = data.get("version")
    if version != VERSION or type(version) is not int:
        raise ArtifactError(
            f"the program has version {_short(version)}, this lower86 reads {VERSION}",
            where="version",
            fix="save the model again with this lower86, or install the one that saved it",
        )
    decoders = _fields(Program)
    wrong = [*(set(data) - {"version", *decoders}), *({*decoders} - set(data))]
    if wrong:
        raise ArtifactError(f"a program's fields are {', '.join(decoders)}", where=_short(sorted(wrong)[0]))
    made = {}
    for name, decode in decoders.items():
        try:
            made[name] = decode(data[name])
        except _Problem as problem:
            raise ArtifactError(problem.what, where=f"{name}{problem.path}") from None
    return Program(constants=tuple(constants), **made)


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


@cache
def _fields(kind: type[Any]) -> dict[str, Decoder]:
    """How each field of a dataclass is read, in order; the constants' bytes are not part of the data."""
    hints = typing.get_type_hints(kind, localns={"SizeExpr": sizes.SizeExpr})
    return {f.name: _decoder(hints[f.name]) for f in dataclasses.fields(kind) if f.name != "constants"}


@cache
def _decoder(hint: Any) -> Decoder:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            # Only attributes hold anything: numbers, text, sizes, and tuples of those.
            return _attributes if arguments[0] is Any else _tuple_of(_decoder(arguments[0]))
        return _tuple_with([_decoder(argument) for argument in arguments])
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _size if hint is sizes.SizeExpr else _object_of({hint.__name__: hint})
    return {int: _int, float: _float, bool: _bool, str: _text, type(None): _none}[hint]


def _union(arguments: Sequence[Any]) -> Decoder:
    """By the JSON value's own type: no two members of a union here look alike."""
    classes = [a for a in arguments if isinstance(a, type) and dataclasses.is_dataclass(a) and a is not sizes.SizeExpr]
    kinds: dict[str, type[Any]] = {kind.__name__: kind for kind in classes}
    by_type: dict[type[Any], Decoder] = {}
    for argument in arguments:
        decode = _object_of(kinds) if argument in classes else _decoder(argument)
        origin = typing.get_origin(argument)
        if argument is sizes.SizeExpr:
            by_type[dict] = decode
        elif origin is tuple:
            by_type[list] = decode
        elif argument in (int, float, bool, str, type(None)):
            by_type[argument] = decode
        else:
            by_type[dict] = decode
    if float in by_type and sizes.SizeExpr in arguments:
        by_type[dict] = _float_or_size

    def read(data: Any) -> Any:
        found = by_type.get(type(data))
        if found is None:
            raise _Problem(f"{_short(data)} does not belong here")
        return found(data)

    return read


def _tuple_of(decode: Decoder) -> Decoder:
    def read(data: Any) -> tuple[Any, ...]:
        if type(data) is not list:
            raise _Problem(f"a list belongs here, not {_short(data)}")
        made = []
        try:
            for item in data:
                made.append(decode(item))
        except _Problem as problem:
            problem.path = f"[{len(made)}]{problem.path}"
            raise
        return tuple(made)

    return read


def _tuple_with(decoders: Sequence[Decoder]) -> Decoder:
    def read(data: Any) -> tuple[Any, ...]:
        if type(data) is not list or len(data) != len(decoders):
            raise _Problem(f"a list of {len(decoders)} belongs here, not {_short(data)}")
        made: list[Any] = []
        try:
            for decode, item in zip(decoders, data, strict=True):
                made.append(decode(item))
        except _Problem as problem:
            problem.path = f"[{len(made)}]{problem.path}"
            raise
        return tuple(made)

    return read


def _object_of(kinds: dict[str, type[Any]]) -> Decoder:
    def read(data: Any) -> Any:
        if type(data) is not dict or len(data) != 1:
            raise _Problem(f"{' or '.join(kinds)} belongs here, not {_short(data)}")
        ((name, content),) = data.items()
        kind = kinds.get(name)
        if kind is None:
            raise _Problem(f"{' or '.join(kinds)} belongs here, not {_short(name)}")
        fields = _fields(typing.cast(Any, kind))
        if type(content) is not list or len(content) != len(fields):
            raise _Problem(f"a {name} has the fields {', '.join(fields)}")
        made: list[Any] = []
        try:
            for decode, item in zip(fields.values(), content, strict=True):
                made.append(decode(item))
        except _Problem as problem:
            problem.path = f".{list(fields)[len(made)]}{problem.path}"
            raise
        return kind(*made)

    return read


def _int(data: Any) -> int:
    if type(data) is not int:
        raise _Problem(f"a whole number belongs here, not {_short(data)}")
    if not -WORD <= data < WORD:
        raise _Problem("the number does not fit 64 bits")
    return data


def _float(data: Any) -> float:
    """A float, or an int where a float would do: params and constants of integer dtypes are ints."""
    if type(data) is float:
        if not math.isfinite(data):
            raise _Problem("a number that is not finite is written as text")
        return data
    if type(data) is dict:
        text = data.get("float")
        if len(data) != 1 or text not in ("nan", "inf", "-inf"):
            raise _Problem("a number belongs here")
        return float(text)
    return _int(data)


def _bool(data: Any) -> bool:
    if type(data) is not bool:
        raise _Problem(f"true or false belongs here, not {_short(data)}")
    return data


def _text(data: Any) -> str:
    if type(data) is not str or len(data) > MOST_TEXT:
        raise _Problem(f"a short text belongs here, not {_short(data)}")
    return data


def _none(data: Any) -> None:
    if data is not None:
        raise _Problem(f"nothing belongs here, not {_short(data)}")


def _float_or_size(data: Any) -> Any:
    return _size(data) if "size" in data else _float(data)


def _attributes(data: Any, depth: int = 0) -> tuple[Any, ...]:
    """Attributes within attributes."""
    if depth >= MOST_NESTED:
        raise _Problem("tuples within tuples within tuples")
    scalar = {int: _int, float: _float, bool: _bool, str: _text, dict: _float_or_size}
    made: list[Any] = []
    try:
        for item in data:
            decode = scalar.get(type(item))
            if decode is None and type(item) is not list:
                raise _Problem(f"{_short(item)} does not belong here")
            made.append(_attributes(item, depth + 1) if decode is None else decode(item))
    except _Problem as problem:
        problem.path = f"[{len(made)}]{problem.path}"
        raise
    return tuple(made)


def _size(data: Any) -> sizes.Size:
    """A size that depends on dims, as `sizes.to_json` writes it: its terms in order, none of them 0."""
    if type(data) is not dict or list(data) != ["size"] or type(data["size"]) is not list:
        raise _Problem(f"a size belongs here, not {_short(data)}")
    return _canonical_size(data["size"])


def _canonical_size(data: Any) -> sizes.Size:
    made = _expression(data, 0, [MOST_PARTS])
    if sizes.to_json(made) != data:
        raise _Problem("a size that is not in its simplest form")
    return made


def size_from_json(data: Any) -> sizes.Size:
    """The inverse of `sizes.to_json`. Raises ArtifactError for what that does not write."""
    try:
        return _canonical_size(data)
    except _Problem as problem:
        raise ArtifactError(problem.what, where="size") from None


def _expression(data: Any, depth: int, left: list[int]) -> sizes.Size:
    if type(data) is int:
        return _int(data)
    if type(data) is not list or len(data) > MOST_TERMS:
        raise _Problem(f"a size has up to {MOST_TERMS} terms")
    terms = []
    for term in data:
        if type(term) is not list or len(term) != 2 or type(term[1]) is not list or len(term[1]) > MOST_ATOMS:
            raise _Problem(f"a term of a size is a number and up to {MOST_ATOMS} factors")
        left[0] -= 1 + len(term[1])
        if left[0] < 0:
            raise _Problem(f"a size has up to {MOST_PARTS} terms and factors")
        terms.append((tuple(_atom(atom, depth, left) for atom in term[1]), _int(term[0])))
    return sizes.canonical(terms)


def _atom(data: Any, depth: int, left: list[int]) -> sizes.Atom:
    if type(data) is str:
        return _text(data)
    if type(data) is not list or len(data) != 2:
        raise _Problem("a factor of a size is the name of a dim, or two sizes, one divided by the other")
    if depth >= MOST_NESTED:
        raise _Problem(f"up to {MOST_NESTED} divisions in a size stand within each other")
    numerator, denominator = (_expression(part, depth + 1, left) for part in data)
    return sizes.FloorDiv(numerator, denominator)
