"""Runs one kernel by itself, on buffers that border pages that nobody may touch; and says how near is near enough.

LOWER86_TEST_LEVEL=avx2 in the environment tests the code of that level, on any CPU that has it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import settings

from lower86.codegen.compile import compile_kernel
from lower86.codegen.names import kernel_name
from lower86.codegen.target import Target
from lower86.program.access import Reading, accesses
from lower86.program.kernels import Kernel
from lower86.program.layout import layout_of
from lower86.program.sizes import evaluate
from lower86.program.validate_kernels import check_kernel
from lower86.runtime.machine_code import MachineCode

Array = np.ndarray[Any, np.dtype[Any]]

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = mmap.PAGESIZE
_LOADED: dict[tuple[str, Target], MachineCode] = {}

TARGET = Target.host(level=os.environ.get("LOWER86_TEST_LEVEL"))
"""What kernels are compiled for unless a test says otherwise."""

POISON = 0x55
"""Every byte of what `run_kernel` returns that the kernel has not written."""


def examples(count: int) -> settings:
    """The same `count` examples on every run; no deadline, as the first one of a kernel compiles it."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


class Guarded:
    """An array whose last byte (or, with `front`, first byte) borders a page that faults on any access."""

    def __init__(self, like: Array, *, front: bool = False, poison: int | None = None) -> None:
        pages = -(-max(like.nbytes, 1) // _PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * _PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (0, pages + 1):
            assert _LIBC.mprotect(ctypes.c_void_p(base + page * _PAGE), ctypes.c_size_t(_PAGE), 0) == 0
        # An empty array lies in the guard page itself: not even its first byte may be read.
        start = _PAGE if front and like.nbytes else (pages + 1) * _PAGE - like.nbytes
        self.address = base + start
        self.array: Array = np.empty(like.shape, like.dtype)
        if like.nbytes:
            raw = (ctypes.c_char * like.nbytes).from_address(self.address)
            self.array = np.frombuffer(raw, dtype=like.dtype, count=like.size).reshape(like.shape)
        if poison is None:
            self.array[...] = like
        else:
            self.array.reshape(-1).view(np.uint8)[:] = poison


def bits(dtype: str, value: float) -> int:
    """A param as the 64-bit word that a step's table holds."""
    if dtype == "f32":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    return int(value)


def run_kernel(
    kernel: Kernel,
    inputs: Mapping[int, Array],
    outputs: Mapping[int, tuple[Sequence[int], str]],
    *,
    dims: Mapping[str, int] | None = None,
    params: Sequence[tuple[str, float]] = (),
    target: Target | None = None,
    expect_status: tuple[int, int] | None = None,
) -> dict[int, Array]:
    """The outputs, by slot.

    The kernel runs twice, on buffers that end and that begin at a guard page, over outputs poisoned with different
    bytes: both runs must write the same bytes. Inputs must come back unchanged. `expect_status`: the index and the
    bound that the kernel has to complain of.

    The buffers of inputs end where `program.access` says that the kernel reads no further, and nothing is written but
    where it says so: what it says is what holds.
    """
    layout, dims, target = layout_of(kernel), dims or {}, target or TARGET
    name = kernel_name(kernel)
    if (name, target) not in _LOADED:
        _LOADED[name, target] = MachineCode([compile_kernel(kernel, target)])
        assert not _LOADED[name, target].is_llvms, "its object has what our own loader does not know"
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(_LOADED[name, target].address(name))
    check_kernel(kernel, name)
    reading = Reading(target.word, target.wide)
    touched = accesses(kernel, {dim: dims[dim] for dim in layout.dims}, reading, name)
    inputs = {slot: _cut(array, touched.reads.get(slot, (0, 0))) for slot, array in inputs.items()}
    results = []
    for poison, front in ((POISON, False), (0xFF, True)):
        given = {slot: Guarded(array, front=front) for slot, array in inputs.items()}
        made = {
            slot: Guarded(np.empty(shape, dtype), front=front, poison=poison)
            for slot, (shape, dtype) in outputs.items()
        }
        status = np.zeros(3, np.int64)
        table = Guarded(np.zeros(layout.words, np.int64), front=front)
        table.array[0] = status.ctypes.data
        for slot, buffer in {**given, **made}.items():
            table.array[1 + slot] = buffer.address
        for i, dim in enumerate(layout.dims):
            table.array[1 + layout.slots + i] = dims[dim]
        for i, (dtype, value) in enumerate(params):
            table.array[1 + layout.slots + len(layout.dims) + i] = bits(dtype, value)
        for unit in reversed(range(evaluate(kernel.units(), dims))):
            function(table.address, unit)
        assert (tuple(status[1:]) if status[0] else None) == expect_status
        for slot, array in inputs.items():
            np.testing.assert_array_equal(given[slot].array, array)
        for slot, buffer in made.items():
            low, high = touched.writes.get(slot, (0, 0))
            bytes_ = buffer.array.reshape(-1).view(np.uint8)
            assert low >= 0
            assert high <= bytes_.size
            assert (bytes_[:low] == poison).all()
            assert (bytes_[high:] == poison).all()
        results.append({slot: buffer.array.copy() for slot, buffer in made.items()})
    for slot in results[0]:
        one, two = (result[slot].reshape(-1).view(np.uint8) for result in results)
        written = (one != POISON) | (two != 0xFF)
        np.testing.assert_array_equal(one[written], two[written])
    return results[0]


def _cut(array: Array, reads: tuple[int, int]) -> Array:
    """The array, up to the last byte that is read."""
    low, high = reads
    assert low >= 0
    assert high <= array.nbytes
    return np.frombuffer(array.tobytes()[:high], np.uint8) if high < array.nbytes else array


def unwritten(shape: Sequence[int], dtype: str) -> Array:
    """What `run_kernel` returns of an output that the kernel does not touch."""
    return np.frombuffer(bytes([POISON]) * int(np.prod(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()


def assert_near(got: Array, want: Array, ulps: float, scale: Array | float = 0.0) -> None:
    """float32 `got` within `ulps` of float64 `want`; an ulp is that of the larger of |want| and `scale`.

    `scale` says what the computation has added up on its way: rounding that is as large as the terms may be.
    NaN and infinities must be the same.
    """
    assert got.dtype == np.float32
    assert got.shape == want.shape
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    size = np.broadcast_to(np.maximum(np.abs(want), np.abs(scale)), want.shape)[finite]
    ulp = np.ldexp(1.0, np.frexp(np.maximum(size, 2.0**-126))[1] - 24)
    off = np.abs(got[finite].astype(np.float64) - want[finite]) / ulp
    assert off.size == 0 or off.max() <= ulps, f"{off.max():.2f} ulp off"
