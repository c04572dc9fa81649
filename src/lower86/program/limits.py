"""How much of anything a program may have: far beyond what models need, and little enough to be checked, compiled and
run in bounded time and memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

MOST_VALUES = 1 << 17
MOST_KERNELS = 1 << 12
MOST_STEPS = 1 << 17
"""Steps of a program, those of loops counted once."""
MOST_DIMS = 64
"""Named dims of a program, and dims that a step gives its kernel."""
MOST_RANK = 16
"""Dims of a tensor, and of a kernel's index space."""
MOST_SLOTS = 256
MOST_PARAMS = 1024
MOST_NODES = 4096
"""Nodes of a body, and stores."""
MOST_WEIGHT = 1024
"""Operations of a body as they are emitted, those that take long counting more: half a second to compile. The largest
of Swin-T is 70."""
MOST_PROGRAM_WEIGHT = 1 << 14
"""The same of a program; ResNet-50 has 800, Swin-T 1,144."""
MOST_PARTS = 4096
"""Terms and factors of all sizes of a kernel: each is an instruction wherever the size is used."""
MOST_EXPANDED = 1024
"""Terms that the product of a kernel's sizes may have when it is multiplied out."""
MOST_REDUCTIONS = 64
MOST_CHANNELS = 16
"""Elements of the last dim of a kernel that computes them one after another."""
MOST_TAPS = 512
"""Taps of a depthwise kernel: each is written out."""
MOST_HEAD = 512
"""Dims of an attention's heads: a unit holds all dims of its queries on the stack."""
MOST_BANDS = 64
MOST_NUMBER = 1 << 46
"""The largest number in a kernel: a stride, a size, a bound."""
MOST_ROWS = 1 << 31
"""Rows that are shared out: a number of rows times a number of parts of them must fit 64 bits."""
MOST_POINTS = 1 << 46
"""Points of a kernel's index space."""
MOST_TABLE_ROWS = 1 << 22
"""Steps of a call, those of loops counted each time."""


@dataclass(frozen=True)
class Limits:
    """What one call may take: bytes for its arena, outputs, states and tables, and seconds, as `access` estimates them.

    The estimate is of one thread of a slow machine, and no promise; its limit keeps a call from running for days.
    """

    memory: int
    seconds: float = 3600.0

    @staticmethod
    def of_machine() -> Limits:
        """All memory that the machine has, and an hour."""
        return Limits(_physical_memory())


@cache
def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
