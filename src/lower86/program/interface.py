"""How a program is called: its flat inputs and results by name, and how callers nest them. Plain data, as the program.

A `Tree` is what is left of a nesting when Python's types of containers are reduced to tuples, lists and dicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .sizes import Size, SizeExpr, evaluate

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Literal:
    """An input or result that is no tensor; as a result, a size that varies between calls is an expression of dims."""

    value: Any


@dataclass(frozen=True)
class Given:
    """A flat input: a tensor of `dtype`, or, if that is "", `literal` itself."""

    name: str
    dtype: str
    literal: Scalar = None


@dataclass(frozen=True)
class Result:
    """A flat result: a tensor of `dtype`, the program's next output, or, if that is "", `literal` itself."""

    name: str
    dtype: str
    literal: Scalar | Size = None


@dataclass(frozen=True)
class Tree:
    """A nesting: `kind` is "leaf", "tuple", "list" or "dict"; `keys` are a dict's, in order."""

    kind: str
    children: tuple[Tree, ...] = ()
    keys: tuple[str | int, ...] = ()

    def names(self, prefix: str = "") -> Iterator[str]:
        """A dotted name for each leaf: keys and positions on the way there."""
        if self.kind == "leaf":
            yield prefix
        for key, child in zip(self.keys or range(len(self.children)), self.children, strict=True):
            yield from child.names(f"{prefix}.{key}" if prefix else str(key))

    def flatten(self, value: Any, where: str) -> Iterator[Any]:
        """The leaves of a value that is nested so. Raises ValueError, which says where it is not."""
        if self.kind == "leaf":
            yield value
        elif self.kind == "dict":
            if not isinstance(value, Mapping) or set(value) != set(self.keys):
                given = f"keys {list(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
                raise ValueError(f"{where} is {given}, not a dict of {list(self.keys)}")
            for key, child in zip(self.keys, self.children, strict=True):
                yield from child.flatten(value[key], f"{where}[{key!r}]")
        else:
            wanted = tuple if self.kind == "tuple" else list
            if not isinstance(value, wanted) or len(value) != len(self.children):
                given = f"a {type(value).__name__}"
                given += f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
                raise ValueError(f"{where} is {given}, not a {self.kind} of {len(self.children)}")
            for number, child in enumerate(self.children):
                yield from child.flatten(value[number], f"{where}[{number}]")

    def unflatten(self, leaves: Iterator[Any]) -> Any:
        """The value that is nested so, of as many leaves as it has."""
        if self.kind == "leaf":
            return next(leaves)
        parts = [child.unflatten(leaves) for child in self.children]
        if self.kind == "dict":
            return dict(zip(self.keys, parts, strict=True))
        return tuple(parts) if self.kind == "tuple" else parts

    def leaves(self) -> int:
        """How many there are."""
        return 1 if self.kind == "leaf" else sum(child.leaves() for child in self.children)


@dataclass(frozen=True)
class Interface:
    """`names` and `positional`, a tuple, are the arguments that may come by place; `named`, a dict, those by name."""

    names: tuple[str, ...]
    positional: Tree
    named: Tree
    result: Tree
    inputs: tuple[Given, ...]
    outputs: tuple[Result, ...]

    def leaves(self, given: Mapping[str, Any]) -> list[Any]:
        """The flat inputs in order, from those given by name; fixed values may be left out.

        Raises InputError for a name that is missing or unknown.
        """
        wanted, known = [one.name for one in self.inputs if one.dtype], {one.name for one in self.inputs}
        wrong = [f"there is no input {name!r}" for name in given if name not in known]
        wrong += [f"{name} is missing" for name in wanted if name not in given]
        if wrong:
            raise InputError("; ".join(wrong), where="inputs by name", fix=f"pass {', '.join(wanted)}")
        return [given.get(one.name, one.literal) for one in self.inputs]


def merged(made: Sequence[Any], literals: Sequence[Literal | None], dims: Mapping[str, int]) -> list[Any]:
    """All flat results of a call: the tensors `made`, and between them what is known without."""
    tensors = iter(made)
    return [next(tensors) if one is None else _known(one.value, dims) for one in literals]


def _known(value: Any, dims: Mapping[str, int]) -> Any:
    try:
        return evaluate(value, dims) if isinstance(value, SizeExpr) else value
    except ZeroDivisionError as problem:
        raise InputError(
            f"a result is the size {value}, which divides by 0",
            where=", ".join(f"{name} = {size}" for name, size in dims.items()),
            fix="pass inputs of other sizes",
        ) from problem
