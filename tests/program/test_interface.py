"""Nestings without Python's types: flat leaves of a value, and a value of flat leaves."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from lower86.errors import InputError
from lower86.program.interface import Literal, Tree, merged
from lower86.program.sizes import dim_atom

LEAF = Tree("leaf")
TREE = Tree("tuple", (LEAF, Tree("dict", (LEAF, Tree("list", (LEAF, LEAF))), ("b", 3)), Tree("tuple")))
VALUE = (1, {"b": 2, 3: [4, 5]}, ())


def test_there_and_back() -> None:
    leaves = list(TREE.flatten(VALUE, "x"))
    assert leaves == [1, 2, 4, 5]
    assert TREE.unflatten(iter(leaves)) == VALUE
    assert TREE.leaves() == 4
    assert list(TREE.names()) == ["0", "1.b", "1.3.0", "1.3.1"]
    assert list(LEAF.names()) == [""]


def test_keys_in_any_order() -> None:
    assert list(TREE.flatten((1, OrderedDict([(3, [4, 5]), ("b", 2)]), ()), "x")) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "x is a int, not a tuple of 3"),
        ((1, 2), "x is a tuple of 2, not a tuple of 3"),
        ([*VALUE], "x is a list of 3, not a tuple of 3"),
        ((1, {"b": 2}, ()), r"x\[1\] is keys \['b'\], not a dict of \['b', 3\]"),
        ((1, 2, ()), r"x\[1\] is a int, not a dict"),
        ((1, {"b": 2, 3: (4, 5)}, ()), r"x\[1\]\[3\] is a tuple of 2, not a list of 2"),
    ],
)
def test_values_that_do_not_fit(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(TREE.flatten(value, "x"))


def test_results_that_are_no_tensors() -> None:
    n = dim_atom("n")
    literals = [None, Literal(3), None, Literal(n * 2 + 1), Literal(None)]
    assert merged(["a", "b"], literals, {"n": 5}) == ["a", 3, "b", 11, None]
    with pytest.raises(InputError, match="divides by 0"):
        merged([], [Literal(n // (n - 1))], {"n": 1})
