"""How large constants are once they are packed, which the proof of bounds goes by, for every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.program.program import Packing
from lower86.runtime.packing import packed, packed_bytes

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "none": [(), (0,), (3, 5), (2, 3, 7)],
    "int8_panels": [(1, 1), (64, 4), (70, 17), (0, 5), (5, 0), (3, 70, 9, 5), (1, 64, 1, 3)],
    "bf16_panels": [(1, 1), (70, 17), (3, 70, 9, 5)],
    "float_panels": [(1, 1), (70, 17), (3, 70, 9, 5)],
}
DTYPES = {"none": "f4", "int8_panels": "i1", "bf16_panels": "u2", "float_panels": "f4"}


@pytest.mark.parametrize("level", ISAS)
def test_panels(level: str) -> None:
    for kind, shapes in SHAPES.items():
        for shape in shapes:
            constant, packing = np.ones(shape, DTYPES[kind]), Packing(kind)
            (made,) = packed([constant], [packing], ISAS[level])
            assert packed_bytes(constant, packing, ISAS[level]) == made.nbytes, (kind, shape)


@pytest.mark.parametrize("level", ISAS)
@pytest.mark.parametrize("dtype", ["i1", "f4"])
@pytest.mark.parametrize("shared", [False, True])
def test_depthwise(level: str, dtype: str, shared: bool) -> None:
    for channels, rows, run in ((1, 1, 1), (16, 3, 3), (20, 7, 7), (64, 1, 4), (5, 2, 5), (3, 0, 2), (3, 0, 0)):
        constant, packing = np.ones((channels, rows * run), dtype), Packing("depthwise", run, shared)
        (made,) = packed([constant], [packing], ISAS[level])
        assert packed_bytes(constant, packing, ISAS[level]) == made.nbytes, (channels, rows, run)
