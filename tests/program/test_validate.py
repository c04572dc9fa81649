"""Programs that nobody may compile: what is wrong with each, and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lower86.errors import ArtifactError
from lower86.program.body import Attribute, Body, Node, Store
from lower86.program.kernels import (
    Attention,
    Band,
    Contraction,
    Depthwise,
    Fill,
    IntegerProducts,
    Interleave,
    Kernel,
    Left,
    Pack,
    Pointwise,
    Reduction,
    Right,
    Rows,
    RowSums,
)  # fmt: skip
from lower86.program.limits import MOST_NODES, MOST_NUMBER, MOST_RANK
from lower86.program.program import Check, Dim, Foreign, Loop, Packing, Program, State, Step, Value
from lower86.program.sizes import FloorDiv, Size, dim_atom, product
from lower86.program.validate import validate
from lower86.program.validate_kernels import check_kernel

D0, D1, N = dim_atom("d0"), dim_atom("d1"), dim_atom("n")


def node(op: str, *args: int, dtype: str = "f32", attrs: tuple[Attribute, ...] = ()) -> Node:
    return Node(op, args, dtype, attrs)


LOAD = node("load", attrs=(0, (D0, 1)))
INDEX = node("load", dtype="i64", attrs=(2, (0, 1)))
VALUE = node("value", attrs=(0,))


def body(*nodes: Node, strides: tuple[Size, ...] = (D0, 1), places: Any = (), slot: int = 1) -> Body:
    """The nodes, and a store of the last one."""
    return Body(nodes, (Store(slot, strides, len(nodes) - 1, places),))


def pointwise(*nodes: Node, **changes: Any) -> Pointwise:
    return Pointwise((3, D0), body(*nodes, **changes), 2, 4096)


CONTRACTION = Contraction(
    "u8s8", (), (D0,), 70, (16,), Left(0, (), (16,), (1,)), Right(2, (), packed=True), 3, 0,
    body(VALUE, strides=(70, 1)), 4,
)  # fmt: skip
DEPTHWISE = Depthwise(
    "u8s8", (5, 6), 20, (3, 3), Left(0, (), (160, 20), (160, 20)), 2, 3, body(VALUE, strides=(120, 20, 1)), 2
)
ATTENTION = Attention(
    1, 2, D0, D1, 64, 64, (1, 64, 128), (1, 64, 128), (1, 64, 128), 1, False, None, 0,
    body(VALUE, strides=(1, 64, 128, 1), slot=3),
)  # fmt: skip
PACK = Pack((2,), D0, 70, (1, 70, 1), "u8", False, RowSums((2, D1), (1, 16), "i8"))
ROWS = Rows((3,), (D0,), False, (Reduction("sum", 0),), body(LOAD, VALUE, strides=(1,)), 2)
GOOD: dict[str, Kernel] = {
    "pointwise": pointwise(LOAD),
    "scatter": pointwise(LOAD, INDEX, node("add", 0, 0), places=((1, 1, 7),)),
    "interleave": Interleave((2, D0, 3), body(node("load", attrs=(0, (D0, 1, 9))), strides=(D0, 3, 1)), 4),
    "rows": ROWS,
    "contraction": CONTRACTION,
    "depthwise": DEPTHWISE,
    "attention": ATTENTION,
    "pack": PACK,
    "fill": Fill(0, "u8", 9, (Band(0, (3, 3), (4,)),)),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_kernels_pass(name: str) -> None:
    check_kernel(GOOD[name], "kernel")


def change(kernel: Any, **changes: Any) -> Any:
    return dataclasses.replace(kernel, **changes)


def bomb(terms: int) -> Size:
    return sum((dim_atom(f"d{i}") for i in range(terms)), start=dim_atom("d0"))


BAD: dict[str, tuple[Kernel, str]] = {
    "a cycle": (pointwise(node("neg", 0)), "on itself"),
    "a forward reference": (pointwise(node("neg", 1), LOAD), "on itself or on what comes after"),
    "a negative reference": (pointwise(LOAD, node("neg", -1)), "on itself or"),
    "unknown operation": (pointwise(LOAD, node("system", 0)), "unknown operation 'system'"),
    "too few arguments": (pointwise(LOAD, node("add", 0)), "add of f32 to f32"),
    "too many arguments": (pointwise(LOAD, node("neg", 0, 0)), "neg of f32, f32"),
    "dtypes that differ": (pointwise(LOAD, INDEX, node("add", 0, 1)), "add of f32, i64"),
    "xor of floats": (pointwise(LOAD, node("xor", 0, 0)), "xor of f32"),
    "division of integers": (pointwise(INDEX, node("div", 0, 0, dtype="i64")), "div of i64"),
    "exp of float64": (pointwise(node("load", dtype="f64", attrs=(0, (1, 1))), node("exp", 0, dtype="f64")), "exp of"),
    "arithmetic in bf16": (
        pointwise(node("load", dtype="bf16", attrs=(0, (1, 1))), node("add", 0, 0, dtype="bf16")), "add of bf16",
    ),
    "unknown dtype": (pointwise(node("load", dtype="i128", attrs=(0, (1, 1)))), "as a known dtype"),
    "an operation with attributes": (pointwise(LOAD, node("neg", 0, attrs=(1,))), "neg of f32"),
    "a leaf with arguments": (pointwise(LOAD, node("load", 0, attrs=(0, (1, 1)))), "a leaf with arguments"),
    "a load of more dims": (pointwise(node("load", attrs=(0, (1, 1, 1)))), "strides of 2 dims"),
    "a slot beyond all": (pointwise(node("load", attrs=(1 << 20, (1, 1)))), "no slot has the number"),
    "a negative slot": (pointwise(node("load", attrs=(-1, (1, 1)))), "no slot has the number -1"),
    "a slot that is a bool": (pointwise(node("load", attrs=(True, (1, 1)))), "no slot has the number True"),
    "a stride that is text": (pointwise(node("load", attrs=(0, ("d0", 1)))), "a size belongs here"),
    "a stride that is a bool": (pointwise(node("load", attrs=(0, (True, 1)))), "a size belongs here"),
    "a monstrous stride": (pointwise(node("load", attrs=(0, (2**62, 1)))), "a size or stride of 46116860"),
    "an index of no dim": (pointwise(node("index", dtype="i64", attrs=(2,))), "index of one of 2 dims"),
    "a negative dim": (pointwise(node("index", dtype="i64", attrs=(-1,))), "index of one of 2 dims"),
    "an index that is a float": (pointwise(node("index", attrs=(0,))), "index of one of 2 dims"),
    "an unknown dim": (pointwise(node("extent", dtype="i64", attrs=(N,))), "unknown dims: n"),
    "a division by 0": (
        pointwise(node("extent", dtype="i64", attrs=(dim_atom(FloorDiv(D0, 0)),))), "a size divided by 0",
    ),
    "a constant too large": (pointwise(node("const", dtype="i8", attrs=(128,))), "a number of i8"),
    "a float for an integer": (pointwise(node("const", dtype="i64", attrs=(1.5,))), "a number of i64"),
    "a bool for a number": (pointwise(node("const", attrs=(True,))), "a number of f32"),
    "a number for a bool": (pointwise(node("const", dtype="bool", attrs=(2,))), "a number of bool"),
    "text for a number": (pointwise(node("const", attrs=("1",))), "a number of f32"),
    "a value of no kernel": (pointwise(VALUE), "no such value"),
    "a param beyond all": (pointwise(node("param", attrs=(1 << 20,))), "a param is a number"),
    "a gather at floats": (
        pointwise(LOAD, node("gather", 0, attrs=(0, (0, 1), ((1, 7),), False))), "at what is no index",
    ),
    "a gather of other places": (
        pointwise(INDEX, node("gather", 0, attrs=(0, (0, 1), ((1, 7), (1, 7)), False))), "a bound for each argument",
    ),
    "a gather without bounds": (pointwise(INDEX, node("gather", 0, attrs=(0, (0, 1), ((1,),), False))), "a bound"),
    "a check of floats": (pointwise(LOAD, node("checked", 0, attrs=(7, False))), "what is checked is an index"),
    "bounds that are NaN": (
        pointwise(LOAD, node("const", attrs=(float("nan"),)), node("quantize", 0, 0, 0, 1, 1, dtype="u8")),
        "no numbers of u8",
    ),
    "bounds out of range": (
        pointwise(LOAD, node("const", attrs=(256.0,)), node("quantize", 0, 0, 0, 1, 1, dtype="u8")), "no numbers of u8",
    ),
    "bounds that are computed": (pointwise(LOAD, node("quantize", 0, 0, 0, 0, 0, dtype="u8")), "no numbers of u8"),
    "a store of nothing": (Pointwise((3,), Body((), (Store(0, (1,), 0),)), 1, 16), "stores operation 0 of 0"),
    "a store of more dims": (pointwise(LOAD, strides=(1, 1, 1)), "3 strides in 2 dims"),
    "a store at floats": (pointwise(LOAD, places=((0, 1, 7),)), "at what is no index"),
    "a store at what comes after": (pointwise(LOAD, places=((5, 1, 7),)), "at what is no index"),
    "places in rows": (change(ROWS, body=body(LOAD, INDEX, strides=(1, 1), places=((1, 1, 7),))), "computed places"),
    "too many operations": (pointwise(LOAD, *(node("neg", 0) for _ in range(MOST_NODES))), "more than 4096 operations"),
    "too long to compile": (
        pointwise(LOAD, *(node("pow", 0, 0) for _ in range(65))), "more operations than a kernel may have",
    ),
    "no dims": (Pointwise((), Body(), 1, 16), "0 dims"),
    "too many dims": (Pointwise((1,) * (MOST_RANK + 1), Body(), 1, 16), "17 dims"),
    "a negative size": (Pointwise((-1,), Body(), 1, 16), "a size or stride of -1"),
    "a monstrous size": (Pointwise((MOST_NUMBER + 1,), Body(), 1, 16), "a size or stride of"),
    "a product that overflows": (Pointwise((2**40, 2**40), Body(), 1, 16), "more points"),
    "a polynomial that explodes": (Pointwise((bomb(40), bomb(40)), Body(), 1, 16), "too many terms"),
    "sizes of too many parts": (
        pointwise(*(node("load", attrs=(0, (bomb(60), bomb(60)))) for _ in range(20))), "more than 4096 terms",
    ),
    "units of no rows": (change(GOOD["pointwise"], rows=0), "rows of a unit: 0"),
    "units of negative columns": (change(GOOD["pointwise"], chunk=-16), "columns of a unit: -16"),
    "interleaved in one dim": (Interleave((3,), Body(), 1), "1 dims"),
    "interleaved without a number": (Interleave((3, D0), Body(), 1), "up to 16 elements"),
    "interleaved to excess": (Interleave((3, 3, 4096), Body(), 1), "up to 16 elements"),
    "interleaved with gaps": (
        change(GOOD["interleave"], body=body(LOAD, strides=(D0, 4, 1))), "leaves gaps",
    ),
    "rows of nothing": (change(ROWS, reduced=()), "lanes along a dim that there is not"),
    "vertical without columns": (change(ROWS, kept=(), vertical=True), "lanes along a dim"),
    "unknown reduction": (change(ROWS, reductions=(Reduction("median", 0),)), "'median' of f32"),
    "reduction of a wrong dtype": (change(ROWS, reductions=(Reduction("any", 0),)), "'any' of f32"),
    "reduction of no node": (change(ROWS, reductions=(Reduction("sum", 9),)), "there is no operation 9"),
    "reduction of itself": (change(ROWS, reductions=(Reduction("sum", 1),)), "of its own result"),
    "unknown products": (change(CONTRACTION, kind="i64"), "products of 'i64'"),
    "products without a sum": (change(CONTRACTION, k=()), "without a sum"),
    "products of other strides": (change(CONTRACTION, k=(4, 4)), "strides of other dims"),
    "bytes that are not packed": (change(CONTRACTION, right=Right(2, ())), "no right operand"),
    "words that lie apart": (change(CONTRACTION, left=Left(0, (), (16,), (2,))), "elements lie apart"),
    "an endless loop": (change(CONTRACTION, wide=1), "widened after 1 products"),
    "no blocks": (change(CONTRACTION, blocks=0), "a size or stride of 0"),
    "blocks without end": (change(CONTRACTION, blocks=1 << 40), "blocks of rows"),
    "blocks that vary, of so many rows": (change(CONTRACTION, m=(7,), blocks=D0), "blocks that vary"),
    "columns below 0": (change(CONTRACTION, columns_below=-1), "fewer than -1 rows"),
    "panels of words": (change(PACK, dtype="i16"), "panels of 'i16'"),
    "panels of other strides": (change(PACK, strides=(70, 1)), "strides of other dims"),
    "panels with gaps": (change(PACK, strides=(1, 140, 2)), "without gaps"),
    "panels of negative sizes": (change(PACK, k=-1), "a size or stride of -1"),
    "sums of words": (change(PACK, rows=RowSums((3,), (16,), "i16")), "sums of 'i16'"),
    "sums of other strides": (change(PACK, rows=RowSums((3,), (16, 1), "u8")), "strides of other dims"),
    "sums of too many rows": (change(PACK, rows=RowSums((2**40, 2**40), (16, 1), "u8")), "more points"),
    "sums as two dtypes": (
        change(CONTRACTION, body=body(VALUE, node("value", dtype="i32", attrs=(0,)), strides=(70, 1))), "no such value",
    ),
    "an unroll bomb": (change(DEPTHWISE, taps=(64, 64)), "more than 512 taps"),
    "negative taps": (change(DEPTHWISE, taps=(-3, 3)), "no taps"),
    "no taps": (change(DEPTHWISE, taps=()), "no taps"),
    "no channels": (change(DEPTHWISE, channels=0), "a size or stride|channels: 0"),
    "a stack bomb": (change(ATTENTION, head_dim=1 << 20), "dims of a head"),
    "heads of no group": (change(ATTENTION, groups=0), "query heads of a key head: 0"),
    "attention of integers": (change(ATTENTION, dtype="i8"), "attention of 'i8'"),
    "attention of words": (change(ATTENTION, integers=IntegerProducts("u8", "i16", "u8")), "other integers than bytes"),
    "a mask that is not there": (change(ATTENTION, mask=Body(), mask_node=0), "a mask is one of its operations"),
    "a mask that stores": (change(ATTENTION, mask=body(LOAD, strides=(1, 1, 1, 1))), "a store of 4 strides"),
    "a mask of integers": (change(ATTENTION, mask=Body((INDEX,))), "of float32 or of bools"),
    "a band without dims": (Fill(0, "u8", 9, (Band(0, (), ()),)), "a stride for each dim but the last"),
    "too many bands": (Fill(0, "u8", 9, (Band(0, (3,), ()),) * 100), "more than 64 bands"),
    "a fill of no dtype": (Fill(0, "u4", 9, ()), "an unknown dtype 'u4'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_kernels_without_code(name: str) -> None:
    kernel, match = BAD[name]
    with pytest.raises(ArtifactError, match=match):
        check_kernel(kernel, "kernels[0]")


def program(**changes: Any) -> Program:
    """y[n] = x[n] by way of the arena, twice; a product with packed weights; a state that is written."""
    n = N
    whole = Program(
        dims=(Dim("n", 0, 64, 0, 0),),
        values=(
            Value("f32", (n,), "input", 0),
            Value("f32", (n,), "output", 0),
            Value("f32", (n,), "arena", 0, 64),
            Value("i8", (70, 16), "constant", 0),
            Value("i32", (128,), "constant", 1),
            Value("u8", (n, 16), "arena", 0, 0),
            Value("f32", (64, 70), "state", 0),
        ),
        inputs=(0,),
        outputs=(1,),
        kernels=(Pointwise((D0,), body(node("load", attrs=(0, (1,))), strides=(1,)), 8, 4096), CONTRACTION),
        steps=(
            Step(0, ((0, 0), (2, 0)), (n,), (), "in"),
            Step(1, ((5, 0), (6, 0), (3, 0), (4, 0)), (n,), (), "linear"),
            Loop(n, (Step(0, ((2, 0), (1, 0)), (1,), (), "out"),), ((4, 4),), "each"),
        ),
        arena_bytes=product((n, 16)) + 64,
        packings=(Packing("int8_panels"), Packing()),
        constants=(np.zeros((70, 16), np.int8), np.zeros(128, np.int32)),
        checks=(Check(n, "<", 65),),
        states=(State("cache", 6),),
    )
    return dataclasses.replace(whole, **changes)


def with_value(number: int, **changes: Any) -> Program:
    values = [*program().values]
    values[number] = dataclasses.replace(values[number], **changes)
    return program(values=tuple(values))


def with_step(number: int, **changes: Any) -> Program:
    steps: list[Any] = [*program().steps]
    steps[number] = dataclasses.replace(steps[number], **changes)
    return program(steps=tuple(steps))


def with_params(*params: tuple[str, float]) -> Program:
    nodes = (
        node("load", attrs=(0, (1,))), *(node("param", attrs=(i,)) for i in range(4)),
        node("quantize", 0, 1, 2, 3, 4, dtype="u8"),
    )  # fmt: skip
    kernel = Pointwise((D0,), body(*nodes, strides=(1,)), 8, 4096)
    return program(kernels=(kernel, CONTRACTION), steps=(Step(0, ((0, 0), (2, 0)), (N,), params, "in"),))


F = ("f32", 1.0)
PROGRAMS: dict[str, tuple[Program, str]] = {
    "an unknown place": (with_value(2, place="heap"), "unknown place 'heap'"),
    "an unknown dtype": (with_value(2, dtype="f8"), "unknown dtype 'f8'"),
    "a negative shape": (with_value(2, shape=(-1,)), "no tensor has the shape"),
    "a shape of unknown dims": (with_value(2, shape=(D0,)), "unknown dims: d0"),
    "an input twice": (program(inputs=(0, 0)), "every value that is an input stands here once"),
    "an output as an input": (program(inputs=(0, 1)), "every value that is an input"),
    "no output": (program(outputs=()), "every value that is an output"),
    "an input of another number": (with_value(0, index=3), "input number 3, listed as 0"),
    "a state twice": (program(states=(State("a", 6), State("b", 6))), "every value that is an state"),
    "a constant that is not there": (with_value(3, index=2), "there is no constant 2"),
    "a constant of another dtype": (with_value(3, dtype="u8"), "its constant is int8"),
    "a constant of another size": (with_value(3, shape=(70, 17)), "its constant is int8"),
    "too few packings": (program(packings=()), "0 for 2 constants"),
    "an unknown packing": (program(packings=(Packing("zip"), Packing())), "unknown packing 'zip'"),
    "a packing of another dtype": (program(packings=(Packing("bf16_panels"), Packing())), "bf16_panels of int8"),
    "a packing of another shape": (program(packings=(Packing("int8_panels"), Packing("int8_panels"))), "of int32"),
    "rows that are no rows": (program(packings=(Packing("depthwise", 5), Packing())), "rows of 5 taps, of 16"),
    "constants of objects": (
        program(constants=(*program().constants, np.array([{}])), packings=(*program().packings, Packing())), "object",
    ),
    "two dims of one name": (program(dims=(*program().dims, *program().dims)), "two dims of one name"),
    "a dim of no input": (program(dims=(Dim("n", 0, 64, 1, 0),)), "there is no input 1"),
    "a dim of no axis": (program(dims=(Dim("n", 0, 64, 0, 1),)), "its input has no axis 1"),
    "a dim divided by 0": (program(dims=(Dim("n", 0, 64, 0, 0, 0),)), "a size of 0 times it"),
    "a dim of no number": (program(dims=(Dim("n", 5, 4, 0, 0),)), "no number is from 5 to 4"),
    "an unknown relation": (program(checks=(Check(N, "~", 1),)), "unknown relation '~'"),
    "a check of unknown dims": (program(checks=(Check(D0, "<", 1),)), "unknown dims: d0"),
    "an arena of unknown dims": (program(arena_bytes=D0), "unknown dims: d0"),
    "two kernels that are one": (program(kernels=(*program().kernels, program().kernels[0])), "the same as kernel 0"),
    "a kernel that is not there": (with_step(0, kernel=2), "there is no kernel 2"),
    "a negative kernel": (with_step(0, kernel=-1), "there is no kernel -1"),
    "too few slots": (with_step(0, slots=((0, 0),)), "1 slots, its kernel has 2"),
    "too many slots": (with_step(0, slots=((0, 0), (2, 0), (2, 0))), "3 slots, its kernel has 2"),
    "a value that is not there": (with_step(0, slots=((0, 0), (9, 0))), "there is no value 9"),
    "too few dims": (with_step(0, dims=()), "its kernel has the dims d0"),
    "too many params": (with_step(0, params=(F,)), "1 params, its kernel has 0"),
    "a write to an input": (with_step(0, slots=((0, 0), (0, 0))), "writes to an input"),
    "a write to a constant": (with_step(0, slots=((0, 0), (4, 0))), "writes to an constant"),
    "weights in an output": (with_step(1, slots=((5, 0), (6, 0), (1, 0), (4, 0))), "slot 2 is no constant"),
    "weights that are not aligned": (with_step(1, slots=((5, 0), (6, 0), (3, 4), (4, 0))), "slot 2 is no constant"),
    "weights that are not packed": (with_step(1, slots=((5, 0), (6, 0), (4, 0), (4, 0))), "slot 2 is packed as"),
    "a loop without advances": (with_step(2, advances=()), "advances for each of its steps"),
    "a loop of too few advances": (with_step(2, advances=((4,),)), "2 slots, its kernel has 2|advances"),
    "a call into PyTorch": (program(steps=(Foreign(0, (0,), (1,), "topk"),)), "a call back into PyTorch"),
    "params of another dtype": (with_params(F, F, F, ("f64", 1.0)), "param 3 is 1.0 of 'f64'"),
    "params that are no numbers": (with_params(F, F, F, ("f32", True)), "param 3 is True"),
    "params too large": (with_params(F, F, F, ("f32", 1e39)), "param 3 is 1e"),
    "bounds that are NaN": (with_params(F, F, F, ("f32", float("nan"))), "a bound of u8"),
    "bounds that are infinite": (with_params(F, F, ("f32", -float("inf")), F), "a bound of u8"),
    "bounds out of range": (with_params(F, F, F, ("f32", 256)), "a bound of u8"),
}  # fmt: skip


def test_a_good_program_passes() -> None:
    validate(program())
    validate(with_params(("f32", float("nan")), ("f32", float("inf")), ("f32", 0), ("f32", 255)))
    validate(program(steps=(*program().steps, Foreign(0, (0,), (1,), "topk"))), foreign=1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_make_no_sense(name: str) -> None:
    bad, match = PROGRAMS[name]
    with pytest.raises(ArtifactError, match=match):
        validate(bad)
