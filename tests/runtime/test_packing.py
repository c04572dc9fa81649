"""Constants in one block: as each kind lays them out, in place, whatever their shapes."""

from __future__ import annotations

import numpy as np
import pytest

from lower86.codegen.isa import ISAS
from lower86.program.program import Packing
from lower86.runtime import packing
from lower86.runtime.packing import ALIGNMENT, aligned, packed, packed_bytes

SHAPES = [(1, 1), (64, 4), (65, 5), (130, 63), (3, 0), (2, 70, 3, 5), (1, 64, 9, 8)]


@pytest.mark.parametrize("level", ISAS)
def test_every_kind_has_its_bytes_at_its_place(level: str) -> None:
    cpu, generator = ISAS[level], np.random.default_rng(0)
    constants, packings, expected = [], [], []
    for shape in SHAPES:
        weight = generator.integers(-128, 128, shape)
        laid = [
            ("int8_panels", weight.astype(np.int8), packing.int8_panels(weight.astype(np.int8), cpu.word)),
            ("float_panels", weight.astype(np.float32), packing.float_panels(weight.astype(np.float32))),
            ("float_panels", weight.astype(np.float64), packing.float_panels(weight.astype(np.float64))),
            ("bf16_panels", weight.astype(np.uint16), packing.bf16_panels(weight.astype(np.uint16))),
            ("none", weight[..., ::2], np.ascontiguousarray(weight[..., ::2])),
        ]
        for kind, constant, want in laid:
            constants.append(constant)
            packings.append(Packing(kind))
            expected.append(want)
    for channels, rows, run, shared in [(1, 1, 1, False), (16, 3, 3, True), (33, 5, 7, True), (20, 3, 4, False)]:
        taps = generator.integers(-128, 128, (channels, rows * run))
        for constant in (taps.astype(np.int8), taps.astype(np.float32)):
            windows = cpu.wide and constant.dtype == np.int8
            constants.append(constant)
            packings.append(Packing("depthwise", run, shared))
            expected.append(
                packing.depthwise_windows(constant, run, shared) if windows else packing.depthwise(constant)
            )
    for place, want in zip(packed(constants, packings, cpu), expected, strict=True):
        assert place.ctypes.data % ALIGNMENT == 0
        assert place.size == max(want.nbytes, 1)
        assert place[: want.nbytes].tobytes() == want.tobytes()


def test_owned_constants_stay_where_they_lie_if_they_can() -> None:
    fits = aligned(40)[:40].view(np.float32)
    fits[:] = np.arange(10)
    odd = aligned(44)[4:44].view(np.float32)
    odd[:] = np.arange(10)
    spread = aligned(80)[:80].view(np.float32)[::2]
    spread[:] = np.arange(10)
    kept = packed([fits, odd, spread], [Packing()] * 3, ISAS["avx2"], owned=True)
    assert [np.shares_memory(*pair) for pair in zip(kept, (fits, odd, spread), strict=True)] == [True, False, False]
    assert all(place.view(np.float32).tolist() == list(range(10)) for place in kept)
    assert all(place.ctypes.data % ALIGNMENT == 0 for place in kept)
    assert not np.shares_memory(packed([fits], [Packing()], ISAS["avx2"])[0], fits)


def test_owned_memory_of_two_constants_is_given_up_with_the_last() -> None:
    """Or never, where one of them stays as it lies."""
    memory = aligned(1 << 20).reshape(1024, 1024).view(np.int8)
    memory[:] = np.random.default_rng(0).integers(-128, 128, memory.shape)
    before = memory.copy()
    both = packed([memory, memory], [Packing("int8_panels"), Packing("float_panels")], ISAS["avx2"], owned=True)
    alone = [packed([before], [Packing(kind)], ISAS["avx2"])[0] for kind in ("int8_panels", "float_panels")]
    assert all(np.array_equal(*pair) for pair in zip(both, alone, strict=True))
    memory[:] = before
    for packings in ([Packing(), Packing("int8_panels")], [Packing("int8_panels"), Packing()]):
        packed([memory, memory], packings, ISAS["avx2"], owned=True)
        assert np.array_equal(memory, before)


SHAPES_OF: dict[str, list[tuple[int, ...]]] = {
    "none": [(), (0,), (3, 5), (2, 3, 7)],
    "int8_panels": [(1, 1), (64, 4), (70, 17), (0, 5), (5, 0), (3, 70, 9, 5), (1, 64, 1, 3)],
    "bf16_panels": [(1, 1), (70, 17), (3, 70, 9, 5)],
    "float_panels": [(1, 1), (70, 17), (3, 70, 9, 5)],
}
DTYPES_OF = {"none": "f4", "int8_panels": "i1", "bf16_panels": "u2", "float_panels": "f4"}


@pytest.mark.parametrize("level", ISAS)
def test_panels(level: str) -> None:
    for kind, shapes in SHAPES_OF.items():
        for shape in shapes:
            constant, packing = np.ones(shape, DTYPES_OF[kind]), Packing(kind)
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
