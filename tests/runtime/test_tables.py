"""The tables of words: for any dims and loop counts what working them out word by word gives."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping

import numpy as np
import pytest

from lower86.program.body import Body, Node, Store
from lower86.program.kernels import Pointwise
from lower86.program.layout import layout_of
from lower86.program.program import Dim, Foreign, Loop, Packing, Program, State, Step, Value
from lower86.program.sizes import Size, ceil_div, dim_atom, evaluate
from lower86.runtime.tables import Arena, Tables, Writer

N, M, D0, D1 = map(dim_atom, ("n", "m", "d0", "d1"))


def kernel(rows: int, params: int) -> Pointwise:
    """y[d1, d0] = x[d0] + params."""
    nodes = [Node("load", (), "f32", (0, (0, 1)))]
    for number in range(params):
        nodes += [Node("param", (), "f32", (number,)), Node("add", (len(nodes) - 1, len(nodes)), "f32")]
    return Pointwise((D1, D0), Body(tuple(nodes), (Store(1, (D0, 1), len(nodes) - 1),)), rows, 32)


KERNELS = (kernel(2, 0), kernel(3, 2))
VALUES = (
    Value("f32", (N,), "input", 0), Value("f32", (N, M), "output", 0), Value("f32", (M,), "constant", 0),
    Value("f32", (N,), "arena", 0, 64), Value("f32", (M,), "arena", 0, 64 + ceil_div(N, 16) * 64),
    Value("f32", (M,), "state", 0),
)  # fmt: skip
FIRST = Step(0, ((0, 0), (3, N * 4)), (N, 7), (), "first")
SECOND = Step(1, ((2, 8), (1, N * M)), (M, N), (("f32", 0.5), ("f32", -1.25)), "second")
THIRD = Step(0, ((5, 0), (4, 0)), (M, N), (), "third")
PROGRAM = Program(
    dims=(Dim("n", 0, None, 0, 0), Dim("m", 0, None, 0, 0)), values=VALUES, inputs=(0,), outputs=(1,), kernels=KERNELS,
    steps=(
        FIRST,
        Loop(M, (SECOND, THIRD), ((4, N * 4), (0, -4)), "loop"),
        Foreign(0, (0,), (1,), "foreign"),
        Loop(2, (FIRST,), ((4, 0),), "again"),
        THIRD,
    ),
    arena_bytes=128 + N * 4 + M * 4, packings=(Packing(),), constants=(np.zeros(9, np.float32),),
    states=(State("kept", 5),),
)  # fmt: skip
ADDRESSES, CONSTANT, GIVEN, ARENA = (1 << 20, 1 << 21), 1 << 30, (1 << 31, 1 << 32, 1 << 33), 1 << 34


Row = tuple[int, int, list[int]]
"""A kernel's address, its units, its words."""


def expected(dims: Mapping[str, int], status: int) -> list[Row]:
    begins = [GIVEN[0], GIVEN[1], CONSTANT, *(ARENA + evaluate(VALUES[i].offset, dims) for i in (3, 4)), GIVEN[2]]
    rows: list[Row] = []

    def run(step: Step, time: int = 0, advances: tuple[Size, ...] = (0, 0)) -> None:
        layout, local = layout_of(KERNELS[step.kernel]), {f"d{i}": evaluate(s, dims) for i, s in enumerate(step.dims)}
        slots = [
            begins[value] + evaluate(offset, dims) + time * evaluate(far, dims)
            for (value, offset), far in zip(step.slots, advances, strict=True)
        ]
        params = [struct.unpack("<I", struct.pack("<f", value))[0] for _, value in step.params]
        words = [status, *slots, *(local[name] for name in layout.dims), *params]
        rows.append((ADDRESSES[step.kernel], evaluate(KERNELS[step.kernel].units(), local), words))

    for step in PROGRAM.steps:
        if isinstance(step, Step):
            run(step)
        elif isinstance(step, Loop):
            for time in range(evaluate(step.count, dims)):
                for part, advances in zip(step.steps, step.advances, strict=True):
                    run(part, time, advances)
    return rows


def written(tables: Tables, lengths: list[int]) -> list[Row]:
    rows: list[Row] = []
    seen: list[int] = []
    for (kernel, address, units, last), length in zip(tables.steps.tolist(), lengths, strict=True):
        begin = (address - tables.table.ctypes.data) // 8
        seen += range(begin, begin + length)
        rows.append((kernel, units, tables.table[begin : begin + length].tolist()))
        assert last == 0
    assert sorted(seen) == list(range(tables.table.size))
    return rows


def filled(writer: Writer, dims: dict[str, int], arena: int) -> Tables:
    tables = writer.tables(dims)
    tables.move_to(Arena(np.empty(0, np.uint8), arena, 0))
    tables.table[tables.words] = np.array(GIVEN)[tables.numbers] + tables.offsets
    return tables


def test_every_word() -> None:
    writer = Writer(PROGRAM, ADDRESSES, [CONSTANT])
    for n, m in ((5, 3), (1, 1), (5, 0), (0, 4), (33, 3), (5, 3)):
        dims = {"n": n, "m": m}
        tables = filled(writer, dims, ARENA)
        rows = expected(dims, tables.status.ctypes.data)
        assert written(tables, [len(words) for _, _, words in rows]) == rows
        assert list(tables.rows) == [0, 1, 1 + 2 * m, 1 + 2 * m, 3 + 2 * m, 4 + 2 * m]
        assert tables.arena_bytes == 128 + 4 * (n + m)
        assert tables.bases[[2, 3, 4]].tolist() == [CONSTANT, ARENA + 64, ARENA + 64 + -(-n // 16) * 64]


def test_moving_to_another_arena_and_back() -> None:
    writer, dims = Writer(PROGRAM, ADDRESSES, [CONSTANT]), {"n": 5, "m": 3}
    tables = filled(writer, dims, ARENA)
    before, bases = tables.table.copy(), tables.bases.copy()
    tables.move_to(Arena(np.empty(0, np.uint8), ARENA - 640, 0))
    in_arena = (before >= ARENA) & (before < ARENA + 4096)
    assert (before - tables.table == np.where(in_arena, 640, 0)).all()
    assert in_arena.sum() == 1 + 3 + 2 + 1
    tables.move_to(Arena(np.empty(0, np.uint8), ARENA, 0))
    assert (tables.table == before).all()
    assert (tables.bases == bases).all()


@pytest.mark.parametrize("steps", [(), (Foreign(0, (0,), (1,), "foreign"),)], ids=["nothing", "foreign"])
def test_without_native_steps(steps: tuple[Foreign, ...]) -> None:
    tables = Writer(dataclasses.replace(PROGRAM, steps=steps), ADDRESSES, [CONSTANT]).tables({"n": 5, "m": 3})
    assert (tables.table.size, tables.steps.size, list(tables.rows)) == (0, 0, [0] * (1 + len(steps)))
