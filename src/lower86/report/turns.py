"""Contenders in turns within one process, as nothing else compares times on a machine that is shared or virtual."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

CALLS_A_TURN = 5
SETTLING = 0.1
"""Seconds of unmeasured calls that begin a turn: caches and cores are still full of the contender before. The longest
are ONNX Runtime's workers, which spin for 30 ms of CPU time, twice that on a core that they share; PyTorch's, of
OpenMP, spin for a few milliseconds, as long as nobody sets OMP_WAIT_POLICY=passive, which makes PyTorch slower."""

Round = Mapping[str, Sequence[float]]
"""Milliseconds of each measured call, by contender."""


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Iterator[Round]:
    """A round at a time: everyone has one turn a round, in an order of its own, so that all follow all others."""
    names, order = list(contenders), random.Random(0)
    for _ in range(rounds):
        order.shuffle(names)
        taken = {name: _turn(contenders[name]) for name in names}
        yield {name: taken[name] for name in contenders}


def _turn(call: Callable[[], object]) -> list[float]:
    settled = time.perf_counter() + SETTLING
    call()
    while time.perf_counter() < settled:
        call()
    durations = []
    for _ in range(CALLS_A_TURN):
        start = time.perf_counter()
        call()
        durations.append((time.perf_counter() - start) * 1e3)
    return durations


def samples(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """All measured milliseconds of each contender, in ascending order."""
    return {name: sorted(ms for r in rounds for ms in r[name]) for name in rounds[0]}


def medians(rounds: Sequence[Round]) -> dict[str, float]:
    """The median milliseconds of each contender."""
    return {name: statistics.median(times) for name, times in samples(rounds).items()}


def ratios(rounds: Sequence[Round], unit: str) -> dict[str, float]:
    """How many times longer than `unit` each contender takes: the median of the ratios within a round."""

    def ratio(r: Round, name: str) -> float:
        return statistics.median(r[name]) / statistics.median(r[unit])

    return {name: statistics.median(ratio(r, name) for r in rounds) for name in rounds[0]}
