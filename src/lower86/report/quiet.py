"""Whether a machine is quiet: what other processes take of its CPUs while something is measured."""

from __future__ import annotations

import os
import time

NOISE = 0.05
"""So much of the CPUs' time may go to others before the figures are doubtful."""


def disturbed(others: float) -> str:
    """What to say of a machine of whose CPU time others took this share."""
    return f"the machine was not quiet: other processes took {others:.0%} of its CPU time"


class Quiet:
    """From its making on, counts the CPU time of all but this process and the children that it has waited for."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = time.monotonic(), _busy(), _own()

    def seconds(self) -> float:
        """How long that has been."""
        return time.monotonic() - self._wall

    def others(self) -> float:
        """The share of all CPUs' time since then that went to others, other machines on the same host included.

        0 where the system does not say. It counts in hundredths of a second: over less than one, it is coarse.
        """
        wall, busy = time.monotonic() - self._wall, _busy()
        if busy is None or self._busy is None or wall <= 0:
            return 0.0
        taken = (busy - self._busy) - (_own() - self._own)
        return min(max(taken / (wall * (os.cpu_count() or 1)), 0.0), 1.0)


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy() -> float | None:
    """Seconds for which all CPUs have been busy since the start of the system, or stolen from it."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = fields
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
