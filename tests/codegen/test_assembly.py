"""The machine code of the inner loop, read back: what decides speed is in it, and nothing else is."""

from __future__ import annotations

import re
from functools import cache

import pytest

from lower86.codegen.compile import llvm_text
from lower86.codegen.llvm import assembly
from lower86.codegen.names import kernel_name
from lower86.program.kernels import TILE_ROWS, Contraction, Kernel, Left, Reduction, Right, Rows
from lower86.program.sizes import Size
from tests.codegen.expressions import Expression, stored
from tests.codegen.test_contraction import D0, D1, D2, LEFT, RIGHT, START, int8_kernel, plain
from tests.harness import TARGET

pytestmark = pytest.mark.skipif(TARGET.level != "avx512_vnni", reason="the registers are those of AVX512")

Line = str


@cache
def functions(kernel: Kernel) -> dict[str, list[Line]]:
    """The instructions and labels of every function, without comments and directives."""
    found: dict[str, list[Line]] = {}
    body: list[Line] = []
    for line in assembly(llvm_text(kernel, TARGET.level), TARGET.cpu, TARGET.features).splitlines():
        text = line.split("#")[0].strip()
        if text.endswith(":") and not text.startswith("."):
            body = found.setdefault(text[:-1], [])
        elif text and (not text.startswith(".") or text.endswith(":")):
            body.append(" ".join(text.split()))
    return found


def loops(lines: list[Line]) -> list[list[Line]]:
    """The bodies of innermost loops: from a label to the jump back to it, with no other loop inside."""
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    spans = []
    for end, line in enumerate(lines):
        jump = re.fullmatch(r"j\w+ (\S+)", line)
        if jump and labels.get(jump[1], end + 1) <= end:
            spans.append((labels[jump[1]], end))
    inner = [(a, b) for a, b in spans if not any((a, b) != (c, d) and a <= c and d <= b for c, d in spans)]
    return [[line for line in lines[a : b + 1] if not line.endswith(":")] for a, b in inner]


def dot_loops(kernel: Kernel) -> dict[str, list[Line]]:
    """For each tile function, its one loop that holds dot products."""
    found = {}
    for name, lines in functions(kernel).items():
        holding = [loop for loop in loops(lines) if any(line.startswith(("vpdpbusd", "vfmadd")) for line in loop)]
        if holding:
            (found[name],) = holding
    return found


def check_loop(loop: list[Line], height: int, instruction: str) -> None:
    dots = [line for line in loop if line.startswith(instruction)]
    assert len(dots) == height * 4
    assert all("%zmm" in line for line in dots)
    assert not any("%ymm" in line or "%xmm" in line for line in loop)
    assert not any("(%rsp)" in line or "(%rbp)" in line or re.search(r"\d\(%r[sb]p", line) for line in loop)
    # An accumulator is read and written by one dot product only, and never moved.
    assert not any(line.startswith(("vmov", "vpxor")) and line.count("%zmm") == 2 for line in loop)
    written = [re.findall(r"%zmm\d+", line)[-1] for line in dots]
    assert len(set(written)) == len(written)


@pytest.mark.parametrize(
    ("m", "n", "k", "heights"),
    [(128, 384, 384, {5, 6}), (12, 64, 64, {6}), (1, 384, 384, {1}), (D0, D1, D2, set(range(1, TILE_ROWS + 1)))],
    ids=str,
)
def test_inner_loop_is_dot_products_on_whole_registers(m: Size, n: Size, k: Size, heights: set[int]) -> None:
    found = dot_loops(int8_kernel("u8s8", m, n, k))
    assert {int(re.findall(r"tile_(\d)x4", name)[0]) for name in found} == heights
    for name, loop in found.items():
        check_loop(loop, int(re.findall(r"tile_(\d)x4", name)[0]), "vpdpbusd")


def test_signed_activations_cost_one_instruction_a_row() -> None:
    for name, loop in dot_loops(int8_kernel("s8s8", 128, 384, 384)).items():
        height = int(name.split("_")[1][0])
        assert sum(line.startswith("vpdpbusd") for line in loop) == height * 4
        assert sum(line.startswith(("xor", "vpxor", "vpternlog")) for line in loop) == height


def test_float_tile_keeps_its_sums_in_registers() -> None:
    right = Right(RIGHT, (), packed=True)
    kernel = Contraction(
        "f32", (), (128,), 384, (384,), Left(LEFT, (), (384,), (1,)), right, START, 0, plain((128, 384)), 2
    )
    found = dot_loops(kernel)
    assert {name.split("_")[1] for name in found} == {"5x4", "6x4"}
    for name, loop in found.items():
        check_loop(loop, int(name.split("_")[1][0]), "vfmadd")


def test_quantizing_epilogue_stays_in_registers() -> None:
    e = Expression()
    result = e.quantize(e.call("mul", e.value(), e.load(4, (0, 1))), 0, "u8")
    kernel = int8_kernel("u8s8", 128, 384, 384, stored(e, result, 3, (128, 384)))
    found = functions(kernel)
    assert not any(name.startswith("epilogue") for name in found)
    text = "\n".join(found["tile_6x4"])
    assert text.count("vpmovdb %zmm") == 24
    assert "call" not in text
    assert "vpinsrb" not in text
    assert not re.search(r"%zmm\d+, \S*\(%rsp\)", text)


def test_quantized_bytes_leave_together() -> None:
    e = Expression()
    real = e.call("fma", e.value(), e.load(4, (0, 1)), e.load(5, (0, 1)))
    result = e.call("quantize_bounded", real, e.const(1.0), e.const(0, "i32"), dtype="u8")
    kernel = int8_kernel("u8s8", 128, 384, 384, stored(e, result, 3, (128, 384)))
    text = "\n".join(functions(kernel)["tile_6x4"])
    assert (text.count("vpackssdw"), text.count("vpackuswb"), text.count("vpermd")) == (12, 6, 6)
    assert not re.search(r"%zmm\d+, \S*\(%rsp\)", text)


def test_larger_epilogues_are_one_function() -> None:
    e = Expression()
    kernel = int8_kernel("u8s8", 128, 384, 384, stored(e, e.call("gelu", e.value()), 3, (128, 384)))
    found = functions(kernel)
    assert {name for name in found if "gelu" not in name} == {kernel_name(kernel), "tile_5x4", "tile_6x4", "epilogue_4"}


def test_the_kernel_calls_nothing_outside() -> None:
    kernel = int8_kernel("u8s8", 128, 384, 384)
    found = functions(kernel)
    assert kernel_name(kernel) in found
    called = {line.split()[1].lstrip("*") for lines in found.values() for line in lines if line.startswith("call")}
    assert all(name in found or name.startswith("%r") for name in called)


def test_a_maximum_waits_for_one_instruction_and_a_masked_one() -> None:
    """And not for a comparison, two masks joined, and a move."""
    e = Expression()
    x = e.load(0, (0, 1))
    e.store(1, (1,), e.value(0))
    kernel = Rows((1,), (1600,), False, (Reduction("max", x),), e.build(), 1)
    (loop,) = loops(functions(kernel)[kernel_name(kernel)])
    assert sum(line.startswith("vmaxps") for line in loop) == 4  # one for each total
    assert not any(line.startswith("kor") for line in loop)
