"""Runs one kernel by itself, on buffers that end where a page begins that nobody may touch."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from lower86.codegen.compile import compile_kernel, kernel_name, layout_of
from lower86.codegen.llvm import LoadedCode
from lower86.codegen.target import Target
from lower86.program.kernels import Kernel
from lower86.program.sizes import evaluate

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = mmap.PAGESIZE


class Guarded:
    """An array whose last byte (or, with `front`, first byte) borders a page that faults on any access."""

    def __init__(self, like: np.ndarray, *, front: bool = False, poison: int | None = None) -> None:
        length = max(like.nbytes, 1)
        pages = -(-length // _PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * _PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (0, pages + 1):
            assert _LIBC.mprotect(ctypes.c_void_p(base + page * _PAGE), ctypes.c_size_t(_PAGE), 0) == 0
        start = _PAGE if front else (pages + 1) * _PAGE - like.nbytes
        raw = (ctypes.c_char * max(like.nbytes, 1)).from_address(base + start) if like.nbytes else b""
        self.address = base + start
        self.array = np.frombuffer(raw, dtype=like.dtype, count=like.size).reshape(like.shape)
        if poison is None:
            self.array[...] = like
        elif like.nbytes:
            self.array.view(np.uint8).reshape(-1)[:] = poison


def bits(dtype: str, value: float) -> int:
    """A param as the 64-bit word that a step's table holds."""
    if dtype == "f32":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    return int(value)


def run_kernel(
    kernel: Kernel,
    inputs: Mapping[int, np.ndarray],
    outputs: Mapping[int, tuple[Sequence[int], str]],
    *,
    dims: Mapping[str, int] | None = None,
    params: Sequence[tuple[str, float]] = (),
    target: Target | None = None,
    front: bool = False,
    expect_status: bool = False,
) -> dict[int, np.ndarray]:
    """The outputs, by slot. Inputs must come back unchanged; two runs over differently poisoned outputs must agree."""
    layout, dims = layout_of(kernel), dims or {}
    code = LoadedCode([compile_kernel(kernel, target or Target.host())])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address(kernel_name(kernel)))
    results = []
    for poison in (0x55, 0xFF):
        given = {slot: Guarded(array, front=front) for slot, array in inputs.items()}
        made = {
            slot: Guarded(np.empty(shape, dtype), front=front, poison=poison) for slot, (shape, dtype) in outputs.items()
        }
        status = np.zeros(3, np.int64)
        table = np.zeros(layout.words, np.int64)
        table[0] = status.ctypes.data
        for slot, buffer in {**given, **made}.items():
            table[1 + slot] = buffer.address
        for i, name in enumerate(layout.dims):
            table[1 + layout.slots + i] = dims[name]
        for i, (dtype, value) in enumerate(params):
            table[1 + layout.slots + len(layout.dims) + i] = bits(dtype, value)
        for unit in reversed(range(evaluate(kernel.units(), dims))):
            function(table.ctypes.data, unit)
        assert bool(status[0]) == expect_status
        for slot, array in inputs.items():
            np.testing.assert_array_equal(given[slot].array, array)
        results.append({slot: buffer.array.copy() for slot, buffer in made.items()})
    for slot, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][slot])
    return results[0]
