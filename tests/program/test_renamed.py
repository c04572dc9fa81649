"""Every size of a program gets the new names; kernels keep dims of their own."""

from __future__ import annotations

from lower86.program.interface import Literal
from lower86.program.program import Check, Dim, Loop, Packing, Program, Step, Value
from lower86.program.renamed import renamed
from lower86.program.sizes import FloorDiv, dim_atom
from tests.program.test_program import KERNELS

S, T = dim_atom("s"), dim_atom("t")


def program(first: str, second: str) -> Program:
    a, b = dim_atom(first), dim_atom(second)
    step = Step(0, ((0, a), (1, 0)), (a, b), (("p", 1.0),), "s", "t")
    return Program(
        (Dim(first, 0, None, 0, 0), Dim(second, 1, 8, 0, 1, 2, 1)), (Value("f32", (a, b * 2 + 1), "input"),), (0,), (),
        (KERNELS["pointwise"],), (step, Loop(b, (step,), ((a, 0),), "s")), a * b, (Packing(),), (),
        (Check(a, "<=", dim_atom(FloorDiv(b, a)), "s"),),
    )  # fmt: skip


def test_all_sizes_and_no_other_text() -> None:
    assert renamed(program("s", "t"), {"s": "d1", "t": "d0"}) == program("d1", "d0")
    assert renamed(program("s", "t"), {"s": "t", "t": "s"}) == program("t", "s"), "at once, not one after the other"
    assert renamed(program("s", "t"), {}) == program("s", "t")


def test_kernels_of_a_program_stay() -> None:
    one = program("d0", "d1")
    assert renamed(one, {"d0": "x", "d1": "y"}).kernels is one.kernels


def test_containers() -> None:
    held = {"a": [S, (T, 3)], "s": Literal(S + T)}
    assert renamed(held, {"s": "x"}) == {"a": [dim_atom("x"), (T, 3)], "s": Literal(dim_atom("x") + T)}
