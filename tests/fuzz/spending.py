"""What a piece of code takes: seconds of this process, and memory beyond what the process had."""

from __future__ import annotations

import time

MOST_SECONDS, MOST_BYTES = 1.0, 256 << 20
"""What a file may take until it is refused or has run, whatever it holds."""


class Spending:
    """Between entering and leaving: `seconds` of CPU time, and `bytes_` that were resident at most, beyond before."""

    def __init__(self) -> None:
        self.seconds, self.bytes_ = 0.0, 0

    def __enter__(self) -> Spending:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # the peak counts from here
        self._before, self._start = _resident("VmRSS"), time.process_time()
        return self

    def __exit__(self, *problem: object) -> None:
        self.seconds = time.process_time() - self._start
        self.bytes_ = _resident("VmHWM") - self._before

    @property
    def is_too_much(self) -> bool:
        return self.seconds > MOST_SECONDS or self.bytes_ > MOST_BYTES

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.bytes_ >> 20} MiB"


def _resident(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) << 10
    return 0
