"""Where things lie in the pool's memory and in a step, in bytes; `codegen/pool.py` tells what they are for.

Apart from the code generator, which a process that finds the pool's machine code in the cache does not need.
"""

from __future__ import annotations

LINE = 128
RECORDS = 8
"""Regions that can be in flight at once; a caller that finds no free record runs its region alone."""

REST, HELPERS, EPOCH, CALLER_CPU = 0, 8, LINE, LINE + 8
AWAKE, RESTING, STOPPED = 0, 1, 2
SLICES = 16
"""Most slices of a region; of more threads several begin with the same one."""
FIRST_RECORD, RECORD_BYTES = 2 * LINE, (2 + SLICES) * LINE
KERNEL, ARGUMENTS, UNITS, CHUNK, CUT = 0, 8, 16, 24, 32
FINISHED, BUSY, GENERATION = LINE, LINE + 8, LINE + 24
LOCK = 8
"""Where the lock of a thread that can be moved lies, after its number: a record's `BUSY`, a helper's `INSIDE`."""
TICKETS = 2 * LINE
INSIDE = FIRST_RECORD + RECORDS * RECORD_BYTES
WATCHED = 4
"""Lines from `INSIDE` on, where helpers say whether they are inside a region: one each, the last for all the others."""
POOL_BYTES = INSIDE + WATCHED * LINE
"""Size of the pool's memory: zeroed and aligned to `LINE`, it is a pool without helpers."""

STEP_KERNEL, STEP_ARGUMENTS, STEP_UNITS, STEP_BYTES = 0, 8, 16, 32
"""A step: address of `void kernel(ptr arguments, i64 unit)`, its first argument, how many units, one word reserved."""
