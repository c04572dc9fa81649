"""Constants in the order in which kernels read them.

The right operand of a contraction is cut into panels of 64 columns, so that one register tile reads straight on:
int8 as [n/64][k/word][64][word], bf16 as [n/64][k/2][64][2], other floats as [n/64][k][64]. What is missing at the
edges is 0 and adds nothing. How many k make a word of int8 depends on the CPU's dot product (`codegen.isa`). Weights of
a convolution are [groups, n, taps, run]: each group has panels of its own, and each run of k words of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..program.kernels import TILE_COLUMNS
from ..program.program import Packing
from .pages import give_back

ALIGNMENT = 64
LANES = 16


class Words(Protocol):
    """What the order depends on: a `Target`, or its instruction set."""

    @property
    def word(self) -> int: ...

    @property
    def wide(self) -> bool: ...


def int8_panels(weight: npt.NDArray[np.int8], word: int = 4) -> npt.NDArray[np.int8]:
    """[n, k] to [n/64][k/word][64][word]; [groups, n, taps, run] to [groups][n/64][taps][run/word][64][word]."""
    return _panels(weight, word)


def float_panels(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[n, k] to [n/64][k][64]; [groups, n, taps, run] to [groups][n/64][taps][run][64]."""
    return _panels(weight, 1)[..., 0]


def _panels(weight: npt.NDArray[Any], word: int) -> npt.NDArray[Any]:
    groups, n, taps, run = _parts(weight.shape)
    panels, words = -(-n // TILE_COLUMNS), -(-run // word)
    whole = weight.reshape(groups, n, taps, run)
    if (panels * TILE_COLUMNS, words * word) != (n, run):
        padded = np.zeros((groups, panels * TILE_COLUMNS, taps, words * word), weight.dtype)
        padded[:, :n, :, :run] = whole
        whole = padded
    # A word is one number: moved byte by byte, this takes fifteen times as long.
    joined = np.dtype(f"u{word * weight.itemsize}")
    parted = np.ascontiguousarray(whole).view(joined).reshape(groups * panels, TILE_COLUMNS, taps * words)
    laid = np.ascontiguousarray(parted.transpose(0, 2, 1))
    return laid.view(weight.dtype).reshape(groups * panels, taps * words, TILE_COLUMNS, word)


def _parts(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """[groups, n, taps, run] of a weight, which may be [n, k]."""
    groups, n, taps, run = shape if len(shape) == 4 else (1, shape[0], 1, shape[1])
    return groups, n, taps, run


def bf16_panels(weight: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """[n, k] to [n/64][k/2][64][2]; [groups, n, taps, run] to [groups][n/64][taps][run/2][64][2]."""
    return _panels(weight, 2)


def depthwise(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[channels, taps] to [channels/16][taps][16], each in 32 bits: a float, or an integer's low 16 bits and zeros."""
    wide = weight if weight.dtype == np.float32 else weight.astype(np.int16).view(np.uint16).astype(np.int32)
    return np.ascontiguousarray(_by_lanes(wide).transpose(0, 2, 1))


def depthwise_windows(weight: npt.NDArray[np.int8], run: int, shared: bool) -> npt.NDArray[np.int8]:
    """[channels, rows x run] to [channels/16][rows][phases][windows][16][4]: each row of taps in words of four.

    With `shared` there are two phases, the second shifted by a tap for every other output.
    """
    parted = _by_lanes(weight)
    rows, phases = weight.shape[1] // max(1, run), 1 + shared
    windows = -(-(run + phases - 1) // 4)
    laid = np.zeros((len(parted), rows, phases, 4 * windows, LANES), np.int8)
    for phase in range(phases):
        laid[:, :, phase, phase : phase + run] = parted.reshape(len(parted), LANES, rows, run).transpose(0, 2, 3, 1)
    laid = laid.reshape(len(parted), rows, phases, windows, 4, LANES)
    return np.ascontiguousarray(laid.transpose(0, 1, 2, 3, 5, 4))


def _by_lanes(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[channels, taps] to [channels/16, 16, taps], filled up with zeros."""
    channels, taps = weight.shape
    padded = np.zeros((-(-channels // LANES) * LANES, taps), weight.dtype)
    padded[:channels] = weight
    return padded.reshape(len(padded) // LANES, LANES, taps)


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """`size` bytes (at least one) whose address is a multiple of `ALIGNMENT`."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + max(size, 1)]


def packed_bytes(constant: npt.NDArray[Any], packing: Packing, cpu: Words) -> int:
    """How many bytes a constant has once it is packed, at least one."""
    if packing.kind == "none":
        return max(1, int(constant.nbytes))
    if packing.kind == "depthwise":
        channels, taps = (int(size) for size in constant.shape)
        if _has_windows(constant, cpu):
            phases = 1 + packing.shared
            taps = taps // max(1, packing.run) * phases * -(-(packing.run + phases - 1) // 4)
        return max(1, -(-channels // LANES) * LANES * taps * 4)
    word = {"int8_panels": cpu.word, "bf16_panels": 2}.get(packing.kind, 1)
    groups, n, taps, run = _parts(constant.shape)
    elements = groups * -(-n // TILE_COLUMNS) * TILE_COLUMNS * taps * -(-run // word) * word
    return max(1, elements * int(constant.itemsize))


Allocate = Callable[[int], npt.NDArray[np.uint8]]
"""Gives so many bytes (at least one) that begin at a multiple of `ALIGNMENT`."""


def packed(
    constants: Sequence[npt.NDArray[Any]],
    packings: Sequence[Packing],
    cpu: Words,
    allocate: Allocate = aligned,
    *,
    owned: bool = False,
) -> list[npt.NDArray[np.uint8]]:
    """The bytes of each constant, packed, in one aligned block: large blocks get large pages, which weights need.

    What needs no packing is copied once, straight into its place; or not at all if it lies aligned and is `owned`. What
    else is `owned` is given up: its memory goes back to the system once all constants that lie there are packed, its
    elements are undefined.
    """
    stays = [owned and p.kind == "none" and _is_aligned(c) for c, p in zip(constants, packings, strict=True)]
    sizes = [
        0 if stay else packed_bytes(constant, packing, cpu)
        for stay, constant, packing in zip(stays, constants, packings, strict=True)
    ]
    memory, start, places = allocate(sum(map(_rounded, sizes))), 0, []
    readers = Counter(constant.ctypes.data for constant in constants)
    for stay, size, constant, packing in zip(stays, sizes, constants, packings, strict=True):
        if stay:
            places.append(constant.reshape(-1).view(np.uint8))
            continue
        place = memory[start : start + size]
        # One at a time: twice the weights would be the most that the process ever needs.
        laid = _laid_out(constant, packing, cpu).reshape(-1).view(np.uint8)
        place[: laid.nbytes] = laid
        del laid  # which may be the constant's own memory
        readers[constant.ctypes.data] -= 1
        if owned and not readers[constant.ctypes.data]:
            give_back(constant)
        places.append(place)
        start += _rounded(size)
    return places


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _has_windows(constant: npt.NDArray[Any], cpu: Words) -> bool:
    return cpu.wide and constant.dtype == np.int8


def _is_aligned(array: npt.NDArray[Any]) -> bool:
    return array.nbytes > 0 and array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def _laid_out(constant: npt.NDArray[Any], packing: Packing, cpu: Words) -> npt.NDArray[Any]:
    if packing.kind == "int8_panels":
        constant = int8_panels(constant, cpu.word)
    elif packing.kind == "float_panels":
        constant = float_panels(constant)
    elif packing.kind == "bf16_panels":
        constant = bf16_panels(constant)
    elif packing.kind == "depthwise":
        windows = _has_windows(constant, cpu)
        constant = depthwise_windows(constant, packing.run, packing.shared) if windows else depthwise(constant)
    return np.ascontiguousarray(constant)
