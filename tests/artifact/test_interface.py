"""An interface as JSON and back."""

from __future__ import annotations

import json
import math

from lower86.artifact.fields import Field
from lower86.artifact.interface import interface_from_json, interface_to_json
from lower86.program.interface import Given, Interface, Result, Tree
from lower86.program.program import Dim, Program, Value
from lower86.program.sizes import FloorDiv, dim_atom

LEAF = Tree("leaf")
N = dim_atom("n")
PROGRAM = Program(
    (Dim("n", 0, None, 0, 0),),
    (Value("bf16", (N,), "input"), Value("bool", (0,), "input", 1), Value("f32", (N,), "output")),
    (0, 1), (2,), (), (), 0, (), (),
)  # fmt: skip


def test_there_and_back() -> None:
    literals = (None, True, 3, -0.5, "text", math.inf, N * N * 2 - 1, dim_atom(FloorDiv(N + 1, 2)) * 3)
    interface = Interface(
        ("x",),
        Tree("tuple", (LEAF,)),
        Tree("dict", (Tree("list", (LEAF,)),), ("y",)),
        Tree("dict", (LEAF, *(LEAF for _ in literals)), ("z", *range(len(literals)))),
        (Given("x", "bf16"), Given("y_0", "", 2.5)),
        (Result("z", "f32"), *(Result(str(n), "", literal) for n, literal in enumerate(literals))),
    )
    written = json.loads(json.dumps(interface_to_json(interface), allow_nan=False))
    again = interface_from_json(Field(written, "here"), PROGRAM)
    assert again == interface
    assert [type(one.literal) for one in again.outputs] == [type(one.literal) for one in interface.outputs]


def test_no_number_is_the_same_number() -> None:
    interface = Interface((), Tree("tuple"), Tree("dict"), LEAF, (), (Result("output", "", math.nan),))
    program = Program((), (), (), (), (), (), 0, (), ())
    written = json.loads(json.dumps(interface_to_json(interface), allow_nan=False))
    literal = interface_from_json(Field(written, "here"), program).outputs[0].literal
    assert isinstance(literal, float)
    assert math.isnan(literal)
