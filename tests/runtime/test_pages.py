"""Memory goes back to the system, and only that of the array itself."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lower86.runtime.pages import give_back

ROOT = Path(__file__).parents[2]
SIZE = 32 << 20


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def test_pages_go_back_while_the_array_stays() -> None:
    array = np.full(SIZE, 7, np.uint8)
    before = resident()
    give_back(array)
    assert before - resident() > 0.9 * SIZE
    assert array.size == SIZE


def test_what_lies_beside_it_stays() -> None:
    memory = np.full(SIZE, 7, np.uint8)
    give_back(memory[1000:-1000])
    assert (memory[:1000] == 7).all()
    assert (memory[-1000:] == 7).all()
    small = np.full(100, 7, np.uint8)
    give_back(small)
    assert (small == 7).all()


def test_memory_that_is_not_numpys_stays(tmp_path: object) -> None:
    pages = mmap.mmap(-1, 1 << 16)
    pages[:] = b"7" * len(pages)
    mapped = np.frombuffer(pages, np.uint8)
    fixed = np.full(1 << 16, ord("7"), np.uint8)
    fixed.flags.writeable = False
    spread = np.full(1 << 17, ord("7"), np.uint8)[::2]
    for array in (mapped, fixed, spread):
        give_back(array)
        assert (array == ord("7")).all()


# In a process of its own, in which the allocator keeps nothing of the size of a weight: memory that earlier work left
# would be taken again without being seen.
ALONE = """
import sys

import numpy as np

from lower86.codegen.isa import ISAS
from lower86.program.program import Packing
from lower86.runtime.packing import aligned, packed
from tests.runtime.test_pages import SIZE, resident

owned = sys.argv[1] == "True"
weights = [aligned(SIZE // 8).view(np.int8).reshape(1024, -1) for _ in range(8)]
for number, weight in enumerate(weights):
    weight[:] = number
before = resident()
places = packed(weights, [Packing("int8_panels")] * 8, ISAS["avx512_vnni"], owned=owned)
taken = resident() - before
for number, (place, weight) in enumerate(zip(places, weights, strict=True)):
    assert (place == number).all()
    assert owned or (weight == number).all()
print(taken / SIZE)
"""


@pytest.mark.parametrize(("owned", "least", "most"), [(True, -0.1, 0.2), (False, 0.9, 1.3)])
def test_packing_takes_memory_once(owned: bool, least: float, most: float) -> None:
    """Of constants that are given up, those that are packed have left nothing behind; the others are untouched."""
    command = [sys.executable, "-c", ALONE, str(owned)]
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=settings, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert least < float(done.stdout) < most
