"""Object files into executable memory, without LLVM: its import takes longer than all else that a load does.

Objects refer to each other's global names, and to functions of this process such as `memset`, by absolute addresses:
the code model of `codegen/llvm.py` makes nothing else. Whatever this does not know goes to LLVM's own loader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .elf import MOST_BYTES, Object, Unreadable, parse
from .executable_memory import ExecutableMemory, process_address

if TYPE_CHECKING:
    from ..codegen.llvm import LoadedCode

_LINE = 64
"""A section begins where a cache line does, whatever it asks for."""


class MachineCode:
    """Object files in executable memory; the functions live as long as this object."""

    def __init__(self, objects: Iterable[bytes]) -> None:
        files = list(objects)
        self._other: LoadedCode | None = None
        try:
            self._memory, self._names = _placed([parse(data) for data in files])
        except (Unreadable, OSError):
            from ..codegen.llvm import LoadedCode

            self._other = LoadedCode(files)

    @property
    def is_llvms(self) -> bool:
        """Whether LLVM had to load it."""
        return self._other is not None

    def address(self, name: str) -> int:
        """The address of the function `name`; 0 if there is none."""
        return self._names.get(name, 0) if self._other is None else self._other.address(name)


def _placed(objects: Sequence[Object]) -> tuple[ExecutableMemory, dict[str, int]]:
    """The objects in memory, and the addresses of their global names: of several equal ones the first."""
    ends = {True: 0, False: 0}
    starts: list[dict[int, int]] = []
    for one in objects:
        starts.append({})
        for number, section in one.sections.items():
            step = max(_LINE, section.alignment)
            starts[-1][number] = -(-ends[section.is_code] // step) * step
            ends[section.is_code] = starts[-1][number] + section.size
    if sum(ends.values()) > MOST_BYTES:
        raise Unreadable(f"{sum(ends.values())} bytes of code and constants")
    memory = ExecutableMemory(ends[True], ends[False])
    names: dict[str, int] = {}
    for one, places in zip(objects, starts, strict=True):
        for number, section in one.sections.items():
            places[number] += 0 if section.is_code else memory.first_constant
            memory.pages[places[number] : places[number] + len(section.content)] = section.content
        for name, (number, offset) in one.defined.items():
            names.setdefault(name, memory.address + places[number] + offset)
    for one, places in zip(objects, starts, strict=True):
        for fixup in one.fixups:
            if fixup.name:
                target = names.get(fixup.name) or process_address(fixup.name)
                if not target:
                    raise Unreadable(f"{fixup.name!r:.80} is nowhere defined")
            else:
                target = memory.address + places[fixup.section] + fixup.offset_in
            word = (target + fixup.addend) & 0xFFFF_FFFF_FFFF_FFFF
            struct.pack_into("<Q", memory.pages, places[fixup.place] + fixup.offset, word)
    memory.close()
    return memory, names
