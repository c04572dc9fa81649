"""How fast this machine reads memory: the slanted roof of a roofline plot."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_BYTES = 64 << 20
"""What each thread reads at once: more than its share of any cache."""


def measured_bandwidth(threads: int, *, seconds: float = 0.2) -> float:
    """Bytes a second that `threads` threads read from memory together: the best of `seconds` of short runs.

    NumPy's maximum of integers reads, keeps nothing, and gives up the GIL.
    """
    arrays = [np.zeros(_BYTES // 4, np.int32) for _ in range(threads)]
    for array in arrays:
        array.fill(1)  # pages of zeros would all be one page
    best = 0.0
    with ThreadPoolExecutor(threads) as workers:
        end = time.perf_counter() + seconds
        while not best or time.perf_counter() < end:
            start = time.perf_counter()
            list(workers.map(np.max, arrays))
            best = max(best, threads * _BYTES / (time.perf_counter() - start))
    return best
