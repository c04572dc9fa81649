"""Memory that the CPU executes: first filled, then closed. It is never writable and executable at once."""

from __future__ import annotations

import ctypes
import mmap
import os

_process = ctypes.CDLL(None, use_errno=True)
_process.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class ExecutableMemory:
    """Pages for code, then pages for what the code reads; given back to the system when this object goes.

    `pages` is written to until `close` is called. Raises OSError where the system allows no such memory.
    """

    def __init__(self, code_bytes: int, constant_bytes: int = 0) -> None:
        self.first_constant = _rounded(max(1, code_bytes))
        """Where the constants begin, in bytes from the start."""
        self.pages = mmap.mmap(
            -1, self.first_constant + _rounded(constant_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))

    def close(self) -> None:
        """From now on the code can be executed, and neither it nor the constants can be written."""
        _protect(self.address, self.first_constant, mmap.PROT_READ | mmap.PROT_EXEC)
        rest = len(self.pages) - self.first_constant
        if rest:
            _protect(self.address + self.first_constant, rest, mmap.PROT_READ)


def _protect(address: int, size: int, rights: int) -> None:
    if _process.mprotect(address, size, rights):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _rounded(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def process_address(name: str) -> int:
    """The address of a function that this process has, such as `memset`; 0 if it has none of that name."""
    try:
        return ctypes.cast(_process[name], ctypes.c_void_p).value or 0
    except AttributeError:
        return 0
