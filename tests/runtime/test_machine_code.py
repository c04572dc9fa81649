"""Our own loader of object files: it gives what LLVM's gives, refuses what it does not know, survives any damage."""

from __future__ import annotations

import ctypes
import gc
import struct
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from lower86.codegen.builder import I64, VOID, Module
from lower86.codegen.compile import compile_kernel
from lower86.codegen.llvm import object_code
from lower86.codegen.target import LEVELS, Target
from lower86.program.body import Body
from lower86.program.kernels import Pointwise
from lower86.runtime import machine_code
from lower86.runtime.elf import Unreadable, parse
from lower86.runtime.machine_code import MachineCode

HEADER, SECTION, RELOCATION = 64, 64, 24


def compiled(text: str) -> bytes:
    return object_code(text, "x86-64", "")


CALLER = compiled("""
declare i64 @other(i64)
declare ptr @memset(ptr, i32, i64)
@table = private constant [4 x i64] [i64 5, i64 6, i64 7, i64 8], align 64
define i64 @first(i64 %x) {
  %p = getelementptr i64, ptr @table, i64 %x
  %y = load i64, ptr %p
  %z = call i64 @other(i64 %y)
  ret i64 %z
}
define void @fill(ptr %p, i64 %n) {
  %r = call ptr @memset(ptr %p, i32 7, i64 %n)
  ret void
}
""")
OTHER = compiled("""
define internal i64 @hidden(i64 %x) noinline { %y = mul i64 %x, 10
  ret i64 %y }
define i64 @other(i64 %x) { %y = call i64 @hidden(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z }
""")
JUMPS = compiled("""
define i64 @jump(i64 %x) {
  %p = alloca i64
  switch i64 %x, label %d [ i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %e ]
a: store volatile i64 11, ptr %p
  ret i64 11
b: store volatile i64 46, ptr %p
  ret i64 23
c: store volatile i64 96, ptr %p
  ret i64 32
e: store volatile i64 188, ptr %p
  ret i64 47
d: ret i64 0
}
""")


def called(code: MachineCode, name: str) -> Callable[[int], int]:
    assert code.address(name)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(name))


def test_objects_call_each_other_and_the_process() -> None:
    code = MachineCode([CALLER, OTHER, JUMPS])
    assert not code.is_llvms
    assert [called(code, "first")(i) for i in range(4)] == [51, 61, 71, 81]
    assert [called(code, "jump")(i) for i in range(5)] == [11, 23, 32, 47, 0]
    bytes_ = np.zeros(100, np.uint8)
    fill = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address("fill"))
    fill(bytes_.ctypes.data, 99)
    assert bytes_.tolist() == [7] * 99 + [0]


def test_what_is_not_global_has_no_address() -> None:
    code = MachineCode([OTHER])
    assert code.address("other")
    assert [code.address(name) for name in ("hidden", "another", "")] == [0, 0, 0]
    assert MachineCode([]).address("other") == 0


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_a_kernel(level: str) -> None:
    kernel = Pointwise((17,), Body(), 1, 32)
    features = ",".join(f"+{need}" for need in LEVELS[level])
    assert not MachineCode([compile_kernel(kernel, Target(level, "x86-64-v3", features))]).is_llvms


def test_what_it_does_not_know_llvm_loads() -> None:
    writable = compiled("""
@count = global i64 40
define i64 @next(i64 %x) { %y = load i64, ptr @count
  %z = add i64 %y, %x
  store i64 %z, ptr @count
  ret i64 %z }
""")
    with pytest.raises(Unreadable):
        parse(writable)
    code = MachineCode([OTHER, writable])
    assert code.is_llvms
    assert (called(code, "next")(2), called(code, "next")(1), called(code, "other")(1)) == (42, 43, 11)


def test_a_system_without_executable_memory_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(machine_code, "ExecutableMemory", refuse)
    code = MachineCode([OTHER])
    assert code.is_llvms
    assert called(code, "other")(4) == 41


def test_the_memory_goes_with_the_code() -> None:
    code = MachineCode([OTHER])
    memory = weakref.ref(code._memory)
    del code
    gc.collect()
    assert memory() is None


def sections(data: bytes) -> tuple[int, int]:
    """Where the section headers begin, and how many there are."""
    return struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]


def tables(data: bytes) -> list[int]:
    """Every byte that is not code: headers of file and sections, symbols, names, relocations."""
    start, count = sections(data)
    places = [*range(HEADER), *range(start, start + count * SECTION)]
    for number in range(count):
        _, kind, _, _, offset, size = struct.unpack_from("<IIQQQQ", data, start + number * SECTION)
        places += range(offset, offset + size) if kind in (2, 3, 4) else ()
    return places


def loads(data: bytes) -> bool:
    """Whether it is loaded by our own means; never run."""
    try:
        machine_code._placed([parse(data)])
    except Unreadable:
        return False
    return True


def test_no_damage_is_more_than_a_refusal() -> None:
    assert not loads(CALLER), "it needs the other"
    outcomes = set()
    for source in (OTHER, JUMPS):
        assert loads(source)
        for place in tables(source):
            for value in (0, 1, 0x7F, 0x80, 0xFF, source[place] ^ 4):
                damaged = bytearray(source)
                damaged[place] = value
                outcomes.add(loads(bytes(damaged)))
        for size in range(0, len(source), 7):
            assert not loads(source[:size])
    assert outcomes == {True, False}


@pytest.mark.parametrize("size", [1 << 31, 1 << 40, (1 << 64) - 1, (1 << 64) - 4096])
def test_numbers_beyond_all_bounds(size: int) -> None:
    start, count = sections(JUMPS)
    refused = 0
    for number in range(count):
        for field in (24, 32, 48):  # a section's offset, size, alignment
            data = bytearray(JUMPS)
            struct.pack_into("<Q", data, start + number * SECTION + field, size)
            refused += not loads(bytes(data))
    assert refused > count
    data = bytearray(JUMPS)
    struct.pack_into("<Q", data, 40, size)
    assert not loads(bytes(data))
    relocations = next(
        struct.unpack_from("<Q", JUMPS, start + number * SECTION + 24)[0]
        for number in range(count)
        if struct.unpack_from("<I", JUMPS, start + number * SECTION + 4)[0] == 4
    )
    data = bytearray(JUMPS)
    struct.pack_into("<Q", data, relocations, size)
    with pytest.raises(Unreadable, match="beyond its section"):
        parse(bytes(data))


def test_code_of_the_builder_runs() -> None:
    module = Module("test_machine_code")
    code = module.function("store", VOID, I64, I64)
    code.store(code.arguments[1], code.pointer(code.arguments[0]), align=8)
    code.ret()
    loaded, word = MachineCode([compiled(module.text())]), np.zeros(1, np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(loaded.address("store"))(word.ctypes.data, 9)
    assert word[0] == 9
