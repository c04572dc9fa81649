"""Memory back to the system while somebody still holds the array that lies in it."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy.typing as npt

_process = ctypes.CDLL(None)
_process.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_DONTNEED = 4


def give_back(array: npt.NDArray[Any]) -> None:
    """The pages that lie wholly within a contiguous array's memory: its elements are undefined from now on.

    For arrays that NumPy allocated, whose memory nobody else uses; of others (mappings of files, what cannot be
    written) nothing happens.
    """
    owner = array
    while owner.base is not None and type(owner.base) is type(array):
        owner = owner.base
    if not (owner.flags.owndata and array.flags.writeable and array.flags.c_contiguous):
        return
    first = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if size > 0:
        _process.madvise(first, size, _DONTNEED)  # which only spares memory: whether it worked does not matter
