"""A program's `Interface` as JSON, and back: strictly, as everything that is read from a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from typing import Any

from ..program import sizes
from ..program.dtypes import DTYPES
from ..program.interface import Given, Interface, Result, Scalar, Tree
from ..program.program import Program
from ..program.sizes import FloorDiv, Size, SizeExpr, dim_atom
from .fields import Field

_MOST_INTEGER = 1 << 63


def interface_to_json(interface: Interface) -> dict[str, Any]:
    """Plain lists, dicts, numbers and strings."""
    return {
        "names": list(interface.names),
        "positional": _tree_to_json(interface.positional),
        "named": _tree_to_json(interface.named),
        "result": _tree_to_json(interface.result),
        "inputs": [_flat_to_json(one) for one in interface.inputs],
        "outputs": [_flat_to_json(one) for one in interface.outputs],
    }


def _tree_to_json(tree: Tree) -> Any:
    """A leaf is null, a tuple {"tuple": […]}, a list {"list": […]}, a dict {"dict": [[key, …], …]}."""
    if tree.kind == "leaf":
        return None
    children = [_tree_to_json(child) for child in tree.children]
    if tree.kind == "dict":
        return {"dict": [[key, child] for key, child in zip(tree.keys, children, strict=True)]}
    return {tree.kind: children}


def _flat_to_json(one: Given | Result) -> Any:
    """Name and dtype, or name, "" and the literal, of which a size is {"size": …} and no finite number {"float": …}."""
    if one.dtype:
        return [one.name, one.dtype]
    literal: Any = one.literal
    if isinstance(literal, SizeExpr):
        literal = {"size": sizes.to_json(literal)}
    elif isinstance(literal, float) and not math.isfinite(literal):
        literal = {"float": str(literal)}
    return [one.name, "", literal]


def interface_from_json(field: Field, program: Program) -> Interface:
    """Inverse of `interface_to_json`; raises ArtifactError for what does not fit the program."""
    parts = field.record(("names", "positional", "named", "result", "inputs", "outputs"))
    trees = {name: _tree(parts[name]) for name in ("positional", "named", "result")}
    if trees["positional"].kind != "tuple" or trees["named"].kind != "dict":
        field.refuse("an interface whose positional arguments are a tuple, the named ones a dict")
    if not all(isinstance(key, str) for key in trees["named"].keys):
        parts["named"].refuse("a dict of arguments by name")
    names = parts["names"].each(lambda one: one.text())
    if len(names) != len(trees["positional"].children) or len(set(names)) != len(names):
        parts["names"].refuse(f"{len(trees['positional'].children)} different names")
    inputs = parts["inputs"].each(_given)
    if len({one.name for one in inputs}) != len(inputs):
        parts["inputs"].refuse("a list of inputs of different names")
    outputs = parts["outputs"].each(lambda one: _result(one, program))
    if trees["positional"].leaves() + trees["named"].leaves() != len(inputs):
        parts["inputs"].refuse("as many inputs as the arguments hold")
    if trees["result"].leaves() != len(outputs):
        parts["outputs"].refuse("as many outputs as the result holds")
    # An input that is a literal has a value of its own in the program, of no elements; a result has none.
    wanted = [program.values[value] for value in program.inputs]
    if [one.dtype or "bool" for one in inputs] != [value.dtype for value in wanted]:
        parts["inputs"].refuse("the program's inputs")
    if any(not one.dtype and value.shape != (0,) for one, value in zip(inputs, wanted, strict=True)):
        parts["inputs"].refuse("the program's inputs")
    made = [program.values[value].dtype for value in program.outputs]
    if [one.dtype for one in outputs if one.dtype] != made:
        parts["outputs"].refuse("the program's outputs")
    return Interface(names, trees["positional"], trees["named"], trees["result"], inputs, outputs)


def _tree(field: Field) -> Tree:
    if field.value is None:
        return Tree("leaf")
    if not isinstance(field.value, dict) or len(field.value) != 1:
        field.refuse("null or an object of one key")
    ((kind, content),) = field.value.items()
    inside = Field(content, f"{field.where}.{kind}")
    if kind == "dict":
        pairs = [pair.items(2) for pair in inside.items()]
        keys = tuple(key.value for key, _ in pairs)
        if not all(type(key) in (str, int) for key in keys) or len(set(keys)) != len(keys):
            inside.refuse("pairs of different keys and what they stand for")
        return Tree("dict", tuple(_tree(child) for _, child in pairs), keys)
    if kind not in ("tuple", "list"):
        field.refuse("a tuple, a list or a dict")
    return Tree(kind, inside.each(_tree))


def _given(field: Field) -> Given:
    parts = field.items(most=3)
    name, dtype = _head(field, parts)
    return Given(name, dtype) if dtype else Given(name, "", _scalar(parts[2]))


def _result(field: Field, program: Program) -> Result:
    parts = field.items(most=3)
    name, dtype = _head(field, parts)
    if dtype:
        return Result(name, dtype)
    literal = parts[2]
    if isinstance(literal.value, dict) and set(literal.value) == {"size"}:
        size = _size(
            Field(literal.value["size"], f"{literal.where}.size"),
            {dim.name for dim in program.dims}, iter(range(_MOST_PARTS)),
        )  # fmt: skip
        return Result(name, "", size)
    return Result(name, "", _scalar(literal))


def _head(field: Field, parts: list[Field]) -> tuple[str, str]:
    if len(parts) < 2:
        field.refuse("a name, a dtype, and a literal where that is empty")
    name, dtype = parts[0].text(), parts[1].one_of(("", *DTYPES))
    if len(parts) != (2 if dtype else 3):
        field.refuse("a name and a dtype, or a name, no dtype, and a literal")
    return name, dtype


def _scalar(field: Field) -> Scalar:
    value: Any = field.value
    if isinstance(value, dict) and set(value) == {"float"} and value["float"] in ("nan", "inf", "-inf"):
        return float(value["float"])
    if type(value) is int and abs(value) > _MOST_INTEGER:
        field.refuse("a number of 64 bits")
    if value is not None and type(value) not in (bool, int, float, str):
        field.refuse("a number, a string, true, false or null")
    scalar: Scalar = value
    return scalar


_MOST_PARTS = 256
_MOST_NESTED = 8


def _size(field: Field, dims: Set[str], left: Iterator[int], depth: int = 0) -> Size:
    """A size of the program's dims, as `sizes.to_json` writes it, of as many terms and factors as are `left`."""
    if type(field.value) is int:
        return field.whole(-_MOST_INTEGER, _MOST_INTEGER)
    if depth > _MOST_NESTED:
        field.refuse(f"a size of divisions at most {_MOST_NESTED} deep")
    total: Size = 0
    for term in field.items(most=_MOST_PARTS):
        coefficient, atoms = term.items(2)
        factor: Size = coefficient.whole(-_MOST_INTEGER, _MOST_INTEGER)
        for atom in atoms.items(most=_MOST_PARTS):
            if next(left, None) is None:
                field.refuse(f"a size of at most {_MOST_PARTS} factors")
            factor = factor * _atom(atom, dims, left, depth)
        total = total + factor
    return total


def _atom(field: Field, dims: Set[str], left: Iterator[int], depth: int) -> SizeExpr:
    if isinstance(field.value, str):
        if field.value not in dims:
            field.refuse("one of the program's dims")
        return dim_atom(field.value)
    numerator, denominator = (_size(side, dims, left, depth + 1) for side in field.items(2))
    return dim_atom(FloorDiv(numerator, denominator))
