"""Constants in the order in which kernels read them.

The right operand of a contraction is cut into panels of 64 columns, so that one register tile reads straight on:
int8 as [n/64][k/word][64][word], float as [n/64][k][64]. What is missing at the edges is 0 and adds nothing. How many k
make a word depends on the CPU's dot product (`codegen.isa`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..program.kernels import TILE_COLUMNS
from ..program.program import Packing

ALIGNMENT = 64


def int8_panels(weight: npt.NDArray[np.int8], word: int = 4) -> npt.NDArray[np.int8]:
    """[n, k] to [n/64][k/word][64][word]."""
    n, k = weight.shape
    panels, words = -(-n // TILE_COLUMNS), -(-k // word)
    padded = np.zeros((panels * TILE_COLUMNS, words * word), np.int8)
    padded[:n, :k] = weight
    return np.ascontiguousarray(padded.reshape(panels, TILE_COLUMNS, words, word).transpose(0, 2, 1, 3))


def float_panels(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[n, k] to [n/64][k][64]."""
    n, k = weight.shape
    panels = -(-n // TILE_COLUMNS)
    padded = np.zeros((panels * TILE_COLUMNS, k), np.float32)
    padded[:n] = weight
    return np.ascontiguousarray(padded.reshape(panels, TILE_COLUMNS, k).transpose(0, 2, 1))


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """`size` bytes (at least one) whose address is a multiple of `ALIGNMENT`."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + max(size, 1)]


def packed(constant: npt.NDArray[Any], packing: Packing, word: int = 4) -> npt.NDArray[np.uint8]:
    """The constant's bytes, packed, in aligned memory of their own."""
    if packing.kind == "int8_panels":
        constant = int8_panels(constant, word)
    elif packing.kind == "float_panels":
        constant = float_panels(constant)
    data = np.ascontiguousarray(constant)
    memory = aligned(data.nbytes)
    memory[: data.nbytes] = data.view(np.uint8).reshape(-1) if data.ndim else np.frombuffer(data.tobytes(), np.uint8)
    return memory
