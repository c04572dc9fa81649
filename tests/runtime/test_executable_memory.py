"""Memory that is written, then executed, never both; and what this process has by name."""

from __future__ import annotations

import ctypes
import mmap

import pytest

from lower86.runtime import executable_memory
from lower86.runtime.executable_memory import ExecutableMemory, process_address

ADD_ONE = bytes.fromhex("488d4701c3")  # lea rax, [rdi + 1]; ret


def rights(address: int) -> str:
    """What the system says of the page at an address, such as "rw-p"."""
    with open("/proc/self/maps", encoding="ascii") as file:
        for line in file:
            first, last = (int(bound, 16) for bound in line.split()[0].split("-"))
            if first <= address < last:
                return line.split()[1]
    return "none"


def test_code_runs_once_it_is_closed() -> None:
    memory = ExecutableMemory(len(ADD_ONE), 5000)
    assert memory.first_constant == mmap.PAGESIZE
    assert rights(memory.address) == rights(memory.address + mmap.PAGESIZE) == "rw-p"
    memory.pages[: len(ADD_ONE)] = ADD_ONE
    memory.close()
    assert rights(memory.address) == "r-xp"
    assert rights(memory.address + mmap.PAGESIZE) == rights(memory.address + mmap.PAGESIZE + 4999) == "r--p"
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(memory.address)(41) == 42


def test_it_goes_with_its_object() -> None:
    memory = ExecutableMemory(1)
    memory.close()
    address = memory.address
    assert rights(address) == "r-xp"
    del memory
    assert rights(address) != "r-xp"


def test_a_system_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def mprotect(address: int, size: int, rights: int) -> int:
            ctypes.set_errno(13)
            return -1

    monkeypatch.setattr(executable_memory, "_process", Refusing)
    with pytest.raises(PermissionError):
        ExecutableMemory(1).close()


def test_functions_of_this_process() -> None:
    assert process_address("memset")
    assert process_address("no_such_function_anywhere") == 0
