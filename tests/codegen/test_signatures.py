"""Every form of every operation that a body may have is code that LLVM can select, on every target."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from lower86.codegen.compile import compile_kernel
from lower86.codegen.operations import OPERATIONS
from lower86.codegen.rows import REDUCTIONS
from lower86.codegen.target import Target
from lower86.program.body import Node
from lower86.program.dtypes import DTYPES
from lower86.program.kernels import Interleave, Pointwise, Reduction, Rows
from lower86.program.limits import MOST_RANK
from lower86.program.signatures import REDUCED, SIGNATURES, WEIGHTS
from lower86.program.validate_kernels import check_kernel
from tests.codegen.expressions import Expression

LEVELS = sorted({Target.host().level, "avx2"})
"""The widest and the narrowest vectors."""


def forms(op: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The dtypes of arguments and result that an operation has, by trying all."""
    for count in (1, 2, 3, 5):
        for given in itertools.product(DTYPES, repeat=count) if count < 5 else [("f32",) * 5]:
            yield from ((given, result) for result in DTYPES if SIGNATURES[op](given, result))


def test_the_grammar_is_of_the_operations_that_there_are() -> None:
    assert set(SIGNATURES) == set(OPERATIONS)
    assert set(WEIGHTS) <= {*OPERATIONS, "gather", "checked"}
    assert {kind: frozenset(combine.identity) for kind, combine in REDUCTIONS.items()} == dict(REDUCED)
    assert sum(1 for op in SIGNATURES for _ in forms(op)) == 322


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("op", sorted(SIGNATURES))
def test_operation(op: str, level: str) -> None:
    """On elements of a vector, and on what all of them share; computed in bf16, too, where that is only held."""
    e, out = Expression(), 1
    for given, result in forms(op):
        for strides in ((0, 1), (0, 0)):
            arguments = [e.load(0, strides, dtype) for dtype in given]
            if op == "quantize":
                arguments[3:] = e.const(0.0), e.const(100.0)
            e.store(out, (20, 1), e.add(op, tuple(arguments), result))
    kernel = Pointwise((3, 20), e.build(), 2, 4096)
    check_kernel(kernel, "kernel")
    compile_kernel(kernel, Target.host(level=level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("kind", REDUCED)
def test_reduction(kind: str, vertical: bool, level: str) -> None:
    for dtype in REDUCED[kind]:
        e = Expression()
        x = e.load(0, (20, 1), dtype)
        e.store(1, (1,), e.value(0, dtype))
        kernel = Rows((20,), (700,), vertical, (Reduction(kind, x),), e.build(), 2)
        check_kernel(kernel, "kernel")
        compile_kernel(kernel, Target.host(level=level))


@pytest.mark.parametrize("level", LEVELS)
def test_leaves(level: str) -> None:
    """Loads, gathers and stores of every dtype, at every kind of stride, and between others."""
    for dtype in DTYPES:
        e = Expression()
        place = e.load(0, (0, 1), "i64")
        e.store(2, (20, 1), e.load(1, (1, 20), dtype), ())
        e.store(2, (1, 20), e.gather(1, (20, 0), {place: (1, 20)}, dtype))
        e.store(
            2, (0, 0), e.gather(1, (20, 1), {e.load(0, (1, 0), "i64"): (1, 0)}, dtype, wraps=True), ((place, 1, 20),)
        )
        e.store(2, (0,), e.load(1, (), dtype))
        kernel = Pointwise((3, 20), e.build(), 2, 4096)
        check_kernel(kernel, "kernel")
        compile_kernel(kernel, Target.host(level=level))
        e = Expression()
        e.store(1, (60, 3, 1), e.load(0, (60, 1, 20), dtype))
        check_kernel(Interleave((3, 20, 3), e.build(), 2), "kernel")
        compile_kernel(Interleave((3, 20, 3), e.build(), 2), Target.host(level=level))


def test_the_deepest_body_and_the_most_dims() -> None:
    e = Expression()
    x = e.load(0, (1,) * MOST_RANK)
    for _ in range(1000):
        x = e.call("add", x, x)
    e.store(1, (1,) * MOST_RANK, x)
    kernel = Pointwise((2,) * MOST_RANK, e.build(), 2, 4096)
    check_kernel(kernel, "kernel")
    compile_kernel(kernel, Target.host())
    assert isinstance(kernel.body.nodes[0], Node)
    assert np.prod(kernel.sizes) == 2**MOST_RANK
