"""A program survives JSON: every kind of kernel, step, size and number."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from lower86.codegen.names import kernel_name
from lower86.errors import ArtifactError
from lower86.program.body import Attribute, Body, BodyBuilder, Node, Store, without_unused
from lower86.program.decode import program_from_json
from lower86.program.kernels import (
    KINDS,
    Attention,
    Band,
    Contraction,
    Depthwise,
    Fill,
    Interleave,
    Left,
    Pack,
    Pointwise,
    Reduction,
    Right,
    Rows,
    RowSums,
)  # fmt: skip
from lower86.program.layout import layout_of
from lower86.program.program import Dim, Foreign, Loop, Packing, Program, Step, Value, constant_bytes, native_steps
from lower86.program.sizes import Size, ceil_div, dim_atom, evaluate, names

D0, D1 = dim_atom("d0"), dim_atom("d1")


def body(*numbers: Attribute, strides: tuple[Size, ...] = (D1, 1)) -> Body:
    """Loads, gathers, constants, params, sizes and two stores."""
    e = BodyBuilder()
    total = e.add("load", (), "f32", (0, strides))
    for number in numbers:
        total = e.add("add", (total, e.add("const", (), "f32", (number,))), "f32")
    place = e.add("load", (), "i64", (3, (1, 0)))
    total = e.add("mul", (total, e.add("gather", (place,), "f32", (1, (0, 1), ((D1, D0 + 1),), True))), "f32")
    total = e.add("mul", (total, e.add("param", (), "f32", (2,))), "f32")
    size = e.add("cast", (e.add("extent", (), "i64", (ceil_div(D0 * D1, 64),)),), "f32")
    e.store(2, strides, e.add("sub", (total, size), "f32"))
    e.store(4, (0, 1), e.add("lt", (total, size), "bool"))
    return e.build()


KERNELS = {
    "pointwise": Pointwise((D0, D1), body(math.inf, -math.inf, 0.1, -0.0, 5e-324, 1e38), 8, 4096),
    "rows": Rows((D0,), (D1,), False, (Reduction("max", 0), Reduction("sum", 2)), body(-math.inf), 4),
    "vertical": Rows((3, D0), (7, D1), True, (Reduction("sum", 0),), body(), 1),
    "int8": Contraction(
        "u8s8", (D0,), (D1,), 100, (384,), Left(0, (D1 * 384,), (384,), (1,)), Right(1, (0,), packed=True), 2, 0,
        body(), 4,
    ),
    "wide": Contraction(
        "s8s8", (), (1,), D0, (70_000,), Left(0, (), (70_000,), (1,)), Right(1, (), packed=True), 2, 32768, body(), 1
    ),
    "float": Contraction(
        "f32", (2, D0), (7,), 9, (D1,), Left(0, (0, D1), (D1,), (1,)), Right(1, (D1, 9 * D1), 9), 0, 0, body(), 4
    ),
    "depthwise": Depthwise(
        "u8s8", (D0, 7, D1), 33, (3, 5), Left(0, (), (D1 * 900, 99, 66), (99, 33)), 1, 2, body(), 2
    ),
    "fill": Fill(0, "u8", D0 * 48, (Band(D1, (D0, 2, 48), (64, 16)), Band(0, (3,), ()))),
    "pack": Pack((D0, 3), 64, D1, (D1 * 192, 64, 1, 192), "u8", False, RowSums((D0, 5), (D1, 64), "i8")),
    "interleave": Interleave((D0, D1, 3), body(), 9),
    "attention": Attention(
        D0, 12, D1, (D1 + 5) // 6, 64, 32, (768 * D1, 64, 768), (768 * D1, 64, 768), (0, 32, 384), 3, True,
        body(), 3, body(1.5),
    ),
    "unmasked": Attention(
        1, 1, 1, 1, 1, 1, (1, 1, 1), (1, 1, 1), (1, 1, 1), 1, False, None, 0, Body((), (Store(3, (0, 0, 0, 1), 0),))
    ),
}  # fmt: skip


def program(**changes: Any) -> Program:
    tokens = dim_atom("tokens")
    whole = Program(
        dims=(Dim("tokens", 0, None, 0, 1), Dim("batch", 1, 64, 0, 0)),
        values=(
            Value("i64", (dim_atom("batch"), tokens), "input"),
            Value("f32", (30_522, 384), "constant", 0),
            Value("u8", (tokens * 4, 384), "arena", 0, (tokens * 1536 + 63) // 64 * 64),
            Value("bool", (), "output", 0),
        ),
        inputs=(0,),
        outputs=(3, 3),
        kernels=tuple(KERNELS.values()),
        steps=(
            Step(
                0, ((0, 0), (1, tokens * 4)), (tokens, 7), (("f32", 0.1), ("i64", 3), ("f32", -math.inf)), "add + mul"
            ),
            Foreign(0, (0, 1), (2,), "topk"),
            Step(6, (), (), (), "Aufmerksamkeit ∞"),
            Loop(tokens, (Step(0, ((0, 0), (2, 7)), (7, 7), (), "each"),), ((tokens * 4, 0),), "rekurrent"),
        ),
        arena_bytes=tokens * 1536 + 64,
        packings=(Packing("int8_panels"), Packing()),
        constants=(np.zeros((2, 3), np.float32), np.zeros(5, np.int8)),
    )
    return dataclasses.replace(whole, **changes)


def through_json(one: Program) -> Program:
    return program_from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)), one.constants)


def test_round_trip() -> None:
    one = program()
    two = through_json(one)
    assert two == one
    assert repr(two) == repr(one)  # -0.0 and 0.0, 1 and 1.0 and True compare equal
    assert all(a is b for a, b in zip(one.constants, two.constants, strict=True))
    assert constant_bytes(two) == 29


def test_native_steps_are_those_of_loops_too() -> None:
    assert [step.label for step in native_steps(program())] == ["add + mul", "Aufmerksamkeit ∞", "each"]


def test_every_kind_of_kernel_is_covered() -> None:
    assert {type(kernel) for kernel in KERNELS.values()} == set(KINDS)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_the_same_to_the_code_generator(name: str) -> None:
    one = KERNELS[name]
    (two,) = through_json(program(kernels=(one,))).kernels
    assert two == one
    assert hash(two) == hash(one)
    assert kernel_name(two) == kernel_name(one)
    assert layout_of(two) == layout_of(one)
    dims = dict.fromkeys(names(one.units()), 77)
    assert evaluate(two.units(), dims) == evaluate(one.units(), dims)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, True, 1, 1.0, 2**63 - 1, -(2**63)])
def test_constants_keep_value_and_type(value: float) -> None:
    kernel = Pointwise((1,), Body((Node("const", (), "f32", (value,)),), (Store(0, (1,), 0),)), 1, 16)
    assert repr(through_json(program(kernels=(kernel,))).kernels) == repr((kernel,))


def test_other_versions_are_refused() -> None:
    data = {**program().to_json(), "version": 0}
    with pytest.raises(ArtifactError, match="has version 0, this lower86 reads 1"):
        program_from_json(data, ())


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("pointwise", 2 * 1),  # 10 rows by 8, one chunk
        ("rows", 3),
        ("vertical", 3),
        ("int8", 10 * 2 * 4),  # 10 of the batch, 2 panels, 4 blocks of a tile
        ("wide", 1),
        ("attention", 10 * 12),
        ("unmasked", 1),
    ],
)
def test_units_cover_the_work(name: str, units: int) -> None:
    assert evaluate(KERNELS[name].units(), {"d0": 10, "d1": 20}) == units


def test_a_body_without_what_no_store_needs() -> None:
    whole = BodyBuilder()
    unused = whole.add("load", (), "f32", (0, (1,)))
    place = whole.add("load", (), "i64", (1, (1,)))
    whole.add("add", (unused, unused), "f32")
    whole.store(2, (1,), whole.add("neg", (whole.add("load", (), "f32", (3, (1,))),), "f32"), ((place, 4, 9),))
    kept = BodyBuilder()
    at = kept.add("load", (), "i64", (1, (1,)))
    kept.store(2, (1,), kept.add("neg", (kept.add("load", (), "f32", (3, (1,))),), "f32"), ((at, 4, 9),))
    assert without_unused(whole.build()) == kept.build()
    assert without_unused(kept.build()) == kept.build()
