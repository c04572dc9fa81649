"""Which CPU this is, asked of the CPU itself: every answer from which LLVM concludes what it is and what it can do.

The system's own list (`/proc/cpuinfo`) leaves things out that LLVM would use, and with it a folder that machines share
could give one of them the instructions of another.
"""

from __future__ import annotations

import ctypes
import platform
import struct

from .executable_memory import ExecutableMemory

_CPUID = bytes.fromhex("53 89f0 89d1 0fa2 8907 895f04 894f08 89570c 5b c3")
"""push rbx; mov eax, esi; mov ecx, edx; cpuid; the four registers to [rdi]; pop rbx; ret"""
_XGETBV = bytes.fromhex("31c9 0f01d0 8907 895704 c3")
"""xor ecx, ecx; xgetbv; eax and edx to [rdi]; ret"""
_XGETBV_AT = 64
_OSXSAVE = 1 << 27
_LEAVES = (
    (0x7, 0), (0x7, 1), (0xD, 1), (0x14, 0), (0x19, 0), (0x1E, 1), (0x24, 0), (0x29, 0),
    (0x8000_0001, 0), (0x8000_0008, 0), (0x8000_0021, 0),
)  # fmt: skip
"""Beside the first two, which are always there."""


def identity() -> str | None:
    """A text that is the same only for CPUs that LLVM takes for the same, or None where it cannot be found out."""
    if platform.machine() != "x86_64":
        return None
    try:
        memory = ExecutableMemory(_XGETBV_AT + len(_XGETBV))
        memory.pages[: len(_CPUID)] = _CPUID
        memory.pages[_XGETBV_AT : _XGETBV_AT + len(_XGETBV)] = _XGETBV
        memory.close()
    except OSError:
        return None
    cpuid = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)(memory.address)
    registers = (ctypes.c_uint32 * 4)()

    def ask(leaf: int, part: int = 0) -> tuple[int, ...]:
        cpuid(ctypes.addressof(registers), leaf, part)
        return tuple(registers)

    highest, extended = ask(0), ask(0x8000_0000)
    signature, _, *features = ask(1)  # the second says which of the cores
    found = [*highest, extended[0], signature, *features]
    if features[0] & _OSXSAVE:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(memory.address + _XGETBV_AT)(ctypes.addressof(registers))
        found += registers[:2]  # which registers the system saves
    for leaf, part in _LEAVES:
        if leaf <= (extended if leaf >> 31 else highest)[0]:
            answer = ask(leaf, part)
            found += (leaf, *(answer[:1] if leaf == 0xD else answer))  # the rest of 0xD are sizes that may change
    return struct.pack(f"<{len(found)}I", *found).hex()
