"""Reads typed fields out of parsed JSON that may be made up; every complaint says which field of which file."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from ..errors import ArtifactError
from .strict_json import SAVE_AGAIN

T = TypeVar("T")
MOST_TEXT = 1 << 16
MOST_ITEMS = 1 << 15


@dataclass(frozen=True)
class Field:
    """A value and where it stands: `file`, then the path of keys and positions."""

    value: Any
    where: str

    def refuse(self, wanted: str) -> NoReturn:
        """Raises ArtifactError: something other than what is wanted stands here."""
        raise ArtifactError(
            f"{reprlib.repr(self.value)} is not {wanted}",
            where=self.where,
            fix=SAVE_AGAIN,
        )

    def record(self, names: Sequence[str]) -> Mapping[str, Field]:
        """The fields of an object that has exactly these."""
        if not isinstance(self.value, dict) or set(self.value) != set(names):
            self.refuse(f"an object of {', '.join(names)}")
        return {name: Field(self.value[name], f"{self.where}.{name}") for name in names}

    def items(self, length: int | None = None, most: int = MOST_ITEMS) -> list[Field]:
        """The items of a list, of `length` if given."""
        if not isinstance(self.value, list) or len(self.value) > most or length not in (None, len(self.value)):
            self.refuse("a list" + (f" of {length}" if length is not None else f" of at most {most}"))
        return [Field(item, f"{self.where}[{number}]") for number, item in enumerate(self.value)]

    def each(self, read: Callable[[Field], T], most: int = MOST_ITEMS) -> tuple[T, ...]:
        """What `read` makes of each item of a list."""
        return tuple(read(item) for item in self.items(most=most))

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str) or len(self.value) > MOST_TEXT:
            self.refuse("a string")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """An integer within inclusive bounds."""
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"a whole number from {low} to {high}")
        return self.value

    def one_of(self, choices: Sequence[str]) -> str:
        """One of some strings."""
        if not isinstance(self.value, str) or self.value not in choices:
            self.refuse(f"one of {', '.join(choices)}")
        return self.value
