"""Programs that would leave their buffers, or take all there is: refused before anything is allocated or run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.errors import ArtifactError, InputError
from lower86.program.body import Body, Node, Store
from lower86.program.kernels import Band, Contraction, Fill, Kernel, Left, Pack, Pointwise, Reduction, Right, Rows
from lower86.program.limits import Limits
from lower86.program.program import Dim, Loop, Packing, Program, State, Step, Value
from lower86.program.sizes import FloorDiv, Size, dim_atom
from lower86.runtime.executable import Executable, bind_dims
from tests.harness import Guarded

N, D0, D1 = dim_atom("n"), dim_atom("d0"), dim_atom("d1")


def copy(sizes: tuple[Size, ...], load: tuple[Size, ...], store: tuple[Size, ...], places: Any = ()) -> Pointwise:
    """y[…] = x[…], with an i64 index in slot 2 for computed places."""
    nodes = [Node("load", (), "f32", (0, load))]
    if places:
        nodes.append(Node("load", (), "i64", (2, (1,) * len(sizes))))
    return Pointwise(sizes, Body(tuple(nodes), (Store(1, store, 0, places),)), 2, 32)


def program(kernel: Kernel, *steps: Step | Loop, **changes: Any) -> Program:
    """An input and an output of n floats, an arena of 64 + 4·n bytes, whose second part is value 2."""
    whole = Program(
        dims=(Dim("n", 0, None, 0, 0),),
        values=(
            Value("f32", (N,), "input", 0),
            Value("f32", (N,), "output", 0),
            Value("f32", (N,), "arena", 0, 64),
        ),
        inputs=(0,),
        outputs=(1,),
        kernels=(kernel,),
        steps=steps,
        arena_bytes=N * 4 + 64,
        packings=(),
        constants=(),
    )
    return dataclasses.replace(whole, **changes)


def admit(one: Program, n: int, **limits: Any) -> None:
    Executable(one, Target.host(), limits=Limits(**{"memory": 1 << 30, **limits})).admit({"n": n})


def step(first: tuple[int, Size] = (0, 0), second: tuple[int, Size] = (1, 0), dims: tuple[Size, ...] = (N,)) -> Step:
    return Step(0, (first, second), dims, (), "copy")


WHOLE = copy((D0,), (1,), (1,))


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000])
def test_what_fits_runs(n: int) -> None:
    one = program(WHOLE, step(), step((1, 0), (2, 0)), step((2, -64), (2, 0), (16,)) if n >= 16 else step())
    executable = Executable(one, Target.host())
    x, y = Guarded(np.arange(n, dtype=np.float32)), Guarded(np.zeros(n, np.float32))
    executable.admit({"n": n})
    executable.run([x.address, y.address], {"n": n})
    np.testing.assert_array_equal(y.array, x.array)


OUTSIDE: dict[str, tuple[Program, str]] = {
    "a read beyond": (program(WHOLE, step(dims=(N + 1,))), "reads bytes 0 to 44 of value 0, which has 0 to 40"),
    "a read before": (program(WHOLE, step((0, -4))), "reads bytes -4 to 36"),
    "a read further on": (program(WHOLE, step((0, 4))), "reads bytes 4 to 44"),
    "a write beyond": (program(WHOLE, step((2, -64), (1, 0), (N + 16,))), "writes bytes 0 to 104 of value 1"),
    "a write beyond the arena": (program(WHOLE, step((0, 0), (2, 4))), "writes bytes 4 to 44 of value 2, which has -"),
    "a write before the arena": (program(WHOLE, step((0, 0), (2, -68))), "writes bytes -68 to -28"),
    "strides that leap": (program(copy((D0,), (2,), (1,)), step()), "reads bytes 0 to 76"),
    "strides that go back": (program(copy((D0,), (-1,), (1,)), step()), "reads bytes -36 to 4"),
    "strides that overflow": (
        program(copy((D0, D1), (D0 * D0 * D0 * D0, 1), (0, 1)), step(dims=(2**12, N))), "a size or stride of 2814",
    ),
    "an arena of nothing": (program(WHOLE, step((0, 0), (2, 0)), arena_bytes=0), "writes bytes 0 to 40 of value 2"),
    "a negative arena": (program(WHOLE, step(), arena_bytes=N * -1), "an arena of -10 bytes"),
    "a negative size": (program(WHOLE, step(dims=(N * -1,))), "a negative size among"),
    "a division by 0": (program(WHOLE, step(dims=(dim_atom(FloorDiv(N, N - 10)),))), "a size divided by 0"),
    "a division by less": (program(WHOLE, step(dims=(dim_atom(FloorDiv(N, N - 11)),))), "a size divided by -1"),
    "a kernel's division by 0": (
        program(copy((D0,), (dim_atom(FloorDiv(1, D0 - 10)),), (1,)), step()), "a size divided by 0",
    ),
    "a loop that goes on": (
        program(WHOLE, Loop(N, (step(dims=(1,)),), ((4, 8),), "loop")), "writes bytes 0 to 76 of value 1",
    ),
    "a loop that goes back": (
        program(WHOLE, Loop(N, (step(dims=(1,)),), ((-4, 4),), "loop")), "reads bytes -36 to 4",
    ),
    "a loop below nothing": (program(WHOLE, Loop(N * -1, (step(dims=(1,)),), ((4, 4),), "loop")), "-10 times over"),
    "a loop without end": (
        program(WHOLE, Loop(N * 2**40, (step(dims=(1,)),), ((0, 0),), "loop")), "steps to run",
    ),
    "a band beyond": (
        program(Fill(0, "f32", 1, (Band(2, (3, 2), (4,)),)), Step(0, ((1, 0),), (), (("f32", 0.0),), "fill")),
        "writes bytes 8 to 48",
    ),
    "a band of less than nothing": (
        program(Fill(0, "f32", 1, (Band(0, (-3,), ()),)), Step(0, ((1, 0),), (), (("f32", 0.0),), "fill")),
        "a negative size among",
    ),
    "a row of nothing that is read": (
        program(
            Rows((D0,), (0,), False, (), Body((Node("load", (), "f32", (0, (0, 1))),), (Store(1, (0,), 0),)), 1),
            step((0, 36)), step((0, 40)),
        ), "reads bytes 40 to 44",
    ),
    "a sum of what is not there": (
        program(
            Rows(
                (D0,), (D1,), False, (Reduction("sum", 0),),
                Body((Node("load", (), "f32", (0, (1, 1))), Node("value", (), "f32", (0,))), (Store(1, (1,), 1),)), 1,
            ), step(dims=(N, 2)),
        ), "reads bytes 0 to 44",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_does_not_fit_is_refused(name: str) -> None:
    one, match = OUTSIDE[name]
    with pytest.raises(ArtifactError, match=match):
        admit(one, 10)


FLOATS = Contraction(
    "f32", (), (D0,), 1, (1,), Left(0, (), (1,), (1,)), Right(0, ()), 0, 0,
    Body((Node("value", (), "f32", (0,)),), (Store(1, (1, 1), 0),)), D1,
)  # fmt: skip


@pytest.mark.parametrize(("blocks", "is_good"), [(1, True), (N, True), (2**31, True), (N - 10, False), (N - 11, False),
                                                 (N + 2**31, False), (N * 2**40, False)])  # fmt: skip
def test_blocks_of_rows_are_some(blocks: Size, is_good: bool) -> None:
    """Tiles are divided by them."""
    one = program(FLOATS, step(dims=(N, blocks)))
    if is_good:
        admit(one, 10)
    else:
        with pytest.raises(ArtifactError, match="blocks of rows"):
            admit(one, 10)


PANELS = Pack((), 4, D0, (1, 4), "u8", False)
PACKS: dict[str, tuple[tuple[tuple[int, Size], ...], str]] = {
    "an operand beyond": (((0, 4), (2, 0), (2, 256)), "reads bytes 4 to 44 of value 0"),
    "panels that are not aligned": (((0, 0), (2, 32), (2, 256)), "slot 1 is not at a multiple of 64 bytes"),
    "starts that are not aligned": (((0, 0), (2, 0), (2, N)), "slot 2 is not at a multiple of 64 bytes"),
    "panels beyond": (((0, 0), (2, 960), (2, 256)), "reads bytes 960 to 1216 of value 2"),
    "panels of which the rest is beyond": (((0, 0), (2, 768), (2, 256)), "reads bytes 768 to 1024 of value 2"),
    "starts beyond": (((0, 0), (2, 0), (2, 960)), "writes bytes 960 to 1024 of value 2"),
    "panels in an output": (((0, 0), (1, 0), (2, 256)), "slot 1 is no constant"),
    "starts in an input": (((0, 0), (2, 0), (0, 0)), "writes to an input"),
}


def packing(*slots: tuple[int, Size]) -> Program:
    step_ = Step(0, slots, (N,), (("i32", 3), ("i32", 4)), "pack")
    return program(PANELS, step_, arena_bytes=1000)


def test_panels_fit() -> None:
    admit(packing((0, 0), (2, 0), (2, 256)), 10)


@pytest.mark.parametrize("name", PACKS)
def test_panels_that_do_not_fit_are_refused(name: str) -> None:
    slots, match = PACKS[name]
    with pytest.raises(ArtifactError, match=match):
        admit(packing(*slots), 10)


def test_computed_places_are_where_their_bounds_say() -> None:
    constant = (np.array([0, 5, -7]),)
    values = (*program(WHOLE).values, Value("i64", (3,), "constant", 0))

    def scatter(stride: Size, bound: Size) -> Program:
        kernel = copy((3,), (1,), (0,), ((1, stride, bound),))
        one = program(kernel, Step(0, ((0, 0), (1, 0), (3, 0)), (N,), (), "scatter"))
        return dataclasses.replace(one, values=values, constants=constant, packings=(Packing(),))

    admit(scatter(1, 10), 10)
    admit(scatter(1, 0), 10)
    for stride, bound in ((1, 11), (2, 6), (-1, 2)):
        with pytest.raises(ArtifactError, match="writes bytes"):
            admit(scatter(stride, bound), 10)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"arena_bytes": 2**45}, "would take 33554432 MiB of memory"),
        ({"arena_bytes": N * 2**40}, "of memory"),
        ({"steps": (Loop(2**21, (step(dims=(1,)),), ((0, 0),), "loop"),)}, "of memory"),
    ],
)
def test_more_memory_than_there_is(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        admit(program(WHOLE, **{"steps": (step(),), **changes}), 10, memory=64 << 20)


def test_outputs_are_counted_before_they_are_made() -> None:
    one = program(WHOLE, step())
    admit(one, 1 << 20)
    with pytest.raises(InputError, match=r"a call of these sizes would take 1\d\d MiB of memory, there are 64"):
        admit(one, 1 << 24, memory=64 << 20)


def test_states_are_counted_before_they_are_made() -> None:
    one = program(WHOLE, step())
    large = Value("f32", (2**18, N, 10), "state", 0)
    with pytest.raises(InputError, match="would take 100 MiB of memory, there are 64"):
        admit(dataclasses.replace(one, values=(*one.values, large), states=(State("cache", 3),)), 10, memory=64 << 20)


def test_a_call_that_would_never_end() -> None:
    body = Body((Node("load", (), "f32", (0, (0, 0))), Node("value", (), "f32", (0,))), (Store(1, (0,), 1),))
    kernel = Rows((2**20,), (2**20,), False, (Reduction("sum", 0),), body, 64)
    with pytest.raises(InputError, match=r"estimated to take \d+ s, the limit is 60 s"):
        admit(program(kernel, step()), 10, seconds=60.0)


def test_inputs_of_other_ranks_are_refused() -> None:
    one = program(WHOLE, step())
    for shape in ((), (3, 3)):
        with pytest.raises(InputError, match=r"x has shape .*, the program takes \[n\]"):
            bind_dims(one, [shape], ["x"])
    divided = dataclasses.replace(
        one, values=(Value("f32", (N, dim_atom(FloorDiv(4, N))), "input", 0), *one.values[1:])
    )
    with pytest.raises(InputError, match="x has shape"):
        bind_dims(divided, [(0, 3)], ["x"])
