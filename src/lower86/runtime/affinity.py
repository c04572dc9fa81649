"""Which CPUs this process runs on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ..errors import InputError

_MOST_CPUS = 1 << 16


def cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs that a list names, in order: `0,2`, `0-3` or both. Raises InputError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or max(len(first), len(last)) > 5:
            raise InputError(
                f"{text!r} is no list of CPUs", where="cpus", fix="give numbers and ranges, as in 0,2 or 0-3"
            )
        low, high = int(first), int(last or first)
        if low > high or high >= _MOST_CPUS:
            raise InputError(f"{part.strip()!r} is no range of CPUs", where="cpus", fix="give the lower one first")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def pin(cpus: Iterable[int]) -> None:
    """Every thread of this process, and all that it will start, runs on `cpus` alone.

    Call it before libraries start threads that count CPUs. Raises InputError for a CPU that the process may not use.
    """
    wanted, allowed = set(cpus), os.sched_getaffinity(0)
    if not wanted or not wanted <= allowed:
        names = ", ".join(map(str, sorted(wanted - allowed))) or "none"
        raise InputError(
            f"CPUs that this process cannot run on: {names}",
            where="cpus",
            fix=f"choose among {', '.join(map(str, sorted(allowed)))}",
        )
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread), wanted)
