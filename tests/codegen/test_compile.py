"""From a kernel to object code: what its argument table holds, what it is called, and that it is always the same."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from lower86.codegen.compile import compile_kernel, llvm_text
from lower86.codegen.llvm import LoadedCode, assembly
from lower86.codegen.names import kernel_name
from lower86.errors import GraphError
from lower86.program.body import Body
from lower86.program.kernels import Attention, Contraction, Kernel, Left, Pointwise, Reduction, Right, Rows
from lower86.program.layout import Layout, layout_of
from lower86.program.sizes import Size, dim_atom
from tests.codegen.expressions import Expression, stored
from tests.harness import TARGET

D0, D1, D10 = (dim_atom(name) for name in ("d0", "d1", "d10"))


def plain(strides: tuple[Size, ...], slot: int) -> Body:
    e = Expression()
    e.store(slot, strides, e.value())
    return e.build()


def summed() -> Kernel:
    e = Expression()
    x = e.load(1, (7, 1))
    e.store(3, (1,), e.call("mul", e.value(), e.param(1)))
    return Rows((D0,), (7,), False, (Reduction("sum", x),), e.build(), 1)


def gathered() -> Kernel:
    e = Expression()
    place = e.load(1, (1,), "i64")
    return Pointwise((D10,), stored(e, e.gather(5, (0,), {place: (D1, D0 // 3 + 1)}), 2, (D10,)), 1, 16)


KERNELS: dict[str, tuple[Kernel, Layout]] = {
    "pointwise": (gathered(), Layout(6, ("d0", "d1", "d10"), 0)),
    "rows": (summed(), Layout(4, ("d0",), 2)),
    "int8": (
        Contraction(
            "u8s8", (), (1,), 64, (4,), Left(0, (), (4,), (1,)), Right(1, (), packed=True), 6, 0, plain((64, 1), 2), 1
        ),
        Layout(7, (), 0),
    ),
    "float": (
        Contraction(
            "f32", (), (D1,), 64, (4,), Left(0, (), (4,), (1,)), Right(4, (), 64), 9, 0, plain((64, 1), 2), 1
        ),
        Layout(5, ("d1",), 0),
    ),
    "attention": (
        Attention(
            1, 1, D0, 3, 4, 4, (0, 0, 4), (0, 0, 4), (0, 0, 4), 1, False, None, 0,
            plain((0, 0, 4, 1), 1),
        ),
        Layout(3, ("d0",), 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_layout(name: str) -> None:
    kernel, layout = KERNELS[name]
    assert layout_of(kernel) == layout
    assert layout.words == 1 + layout.slots + len(layout.dims) + layout.params


def test_names_tell_kernels_apart() -> None:
    names = {kernel_name(kernel) for kernel, _ in KERNELS.values()}
    assert len(names) == len(KERNELS)
    assert all(kernel_name(dataclasses.replace(kernel)) in names for kernel, _ in KERNELS.values())


def test_constants_that_compare_equal_have_names_of_their_own() -> None:
    kernels = []
    for value in (0.0, -0.0):
        e = Expression()
        kernels.append(Pointwise((1,), stored(e, e.const(value), 0, (1,)), 1, 16))
    assert kernels[0] == kernels[1]
    assert kernel_name(kernels[0]) != kernel_name(kernels[1])


@pytest.mark.parametrize("name", KERNELS)
def test_object_code_is_deterministic_and_defines_the_kernel(name: str) -> None:
    kernel, _ = KERNELS[name]
    one, two = (compile_kernel(kernel, TARGET) for _ in range(2))
    assert one == two
    assert LoadedCode([one]).address(kernel_name(kernel)) != 0
    assert LoadedCode([one]).address("another") == 0


def test_kernels_live_together() -> None:
    """Their internal functions have the same names."""
    kernels = [kernel for kernel, _ in KERNELS.values()]
    code = LoadedCode([compile_kernel(kernel, TARGET) for kernel in kernels])
    addresses = [code.address(kernel_name(kernel)) for kernel in kernels]
    assert all(a != b and a for a, b in itertools.permutations(addresses, 2))


def test_every_level_makes_code_without_calls_to_libraries() -> None:
    for kernel in (KERNELS["int8"][0], KERNELS["attention"][0]):
        text = assembly(llvm_text(kernel, TARGET.level), TARGET.cpu, TARGET.features)
        called = {line.split()[1] for line in text.splitlines() if line.strip().startswith("call")}
        assert all(name.startswith(("%r", "*%r", "tile", "epilogue")) for name in called)


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(GraphError, match="no code generator for a kernel of type int"):
        compile_kernel(7, TARGET)
