"""Constants in the order in which kernels read them.

The right operand of a contraction is cut into panels of 64 columns, so that one register tile reads straight on:
int8 as [n/64][k/word][64][word], bf16 as [n/64][k/2][64][2], other floats as [n/64][k][64]. What is missing at the
edges is 0 and adds nothing. How many k make a word of int8 depends on the CPU's dot product (`codegen.isa`). Weights of
a convolution are [groups, n, taps, run]: each group has panels of its own, and each run of k words of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..program.kernels import TILE_COLUMNS
from ..program.program import Packing

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
    groups, n, taps, run = weight.shape if weight.ndim == 4 else (1, weight.shape[0], 1, weight.shape[1])
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


def packed(
    constants: Sequence[npt.NDArray[Any]], packings: Sequence[Packing], cpu: Words, *, owned: bool = False
) -> list[npt.NDArray[np.uint8]]:
    """The bytes of each constant, packed, in one aligned block: large blocks get large pages, which weights need.

    What needs no packing is copied once, straight into its place; or not at all if it lies aligned and is `owned`.
    """
    # Few bytes are packed (most of a language model is its table, which is not), and so may wait for their places.
    laid = [_laid_out(c, packing, cpu) for c, packing in zip(constants, packings, strict=True)]
    stays = [owned and part is c and _is_aligned(part) for part, c in zip(laid, constants, strict=True)]
    sizes = [
        0 if stay else -(-max(part.nbytes, 1) // ALIGNMENT) * ALIGNMENT for part, stay in zip(laid, stays, strict=True)
    ]
    memory, start, places = aligned(sum(sizes)), 0, []
    for number, size in enumerate(sizes):
        part = laid[number]
        if stays[number]:
            places.append(part.reshape(-1).view(np.uint8))
            continue
        place = memory[start : start + max(part.nbytes, 1)]
        place[: part.nbytes] = part.reshape(-1).view(np.uint8)
        places.append(place)
        start += size
        laid[number] = _NOTHING  # its memory is free for the next ones
    return places


_NOTHING = np.empty(0, np.uint8)


def _is_aligned(array: npt.NDArray[Any]) -> bool:
    return array.nbytes > 0 and array.ctypes.data % ALIGNMENT == 0


def _laid_out(constant: npt.NDArray[Any], packing: Packing, cpu: Words) -> npt.NDArray[Any]:
    if packing.kind == "int8_panels":
        constant = int8_panels(constant, cpu.word)
    elif packing.kind == "float_panels":
        constant = float_panels(constant)
    elif packing.kind == "bf16_panels":
        constant = bf16_panels(constant)
    elif packing.kind == "depthwise":
        dots = cpu.wide and constant.dtype == np.int8
        constant = depthwise_windows(constant, packing.run, packing.shared) if dots else depthwise(constant)
    return np.ascontiguousarray(constant)
