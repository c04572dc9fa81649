"""`lower86.benchmark`: how long calls take, how many there are in a second, and whether the machine was quiet."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from ..runtime.streams import own_helpers
from .percentile import percentile
from .quiet import NOISE, Quiet, disturbed

MOST_STREAMS = 256
"""Far more than help: each calls ten times at least, and has helpers of its own."""


@dataclass(frozen=True)
class Benchmark:
    """What was measured: seconds of `calls` calls in `streams` threads that called at once, for `wall` seconds.

    `first` is the very first call. `others` is the share of all CPU time that other processes took meanwhile.
    """

    calls: int
    streams: int
    wall: float
    first: float
    mean: float
    p50: float
    p90: float
    p99: float
    worst: float
    others: float

    @property
    def throughput(self) -> float:
        """Calls a second."""
        return self.calls / self.wall

    @property
    def quiet(self) -> bool:
        """Whether others took so little that the figures can be trusted."""
        return self.others < NOISE

    def to_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return {**asdict(self), "throughput": self.throughput, "quiet": self.quiet}

    def __str__(self) -> str:
        names = ("p50", "p90", "p99", "worst", "mean", "first")
        figures = "  ".join(f"{name} {1e3 * getattr(self, name):.3f}" for name in names)
        lines = [
            f"latency in ms: {figures}",
            f"{self.throughput:.1f} calls a second: {self.calls} in {self.wall:.1f} s, {self.streams} at once",
        ]
        if not self.quiet:
            lines.append(f"{disturbed(self.others)}; measure again")
        return "\n".join(lines)


def benchmark(
    call: Callable[..., Any], *inputs: Any, seconds: float = 5.0, warm_up: float = 1.0, streams: int = 1, **named: Any
) -> Benchmark:
    """Calls again and again with the same inputs, and measures.

    Args:
        call: a lowered module, a loaded program, or any other function that may be called from several threads.
        inputs: positional arguments of each call; `named` are its keyword arguments.
        seconds: how long to measure; there are at least 10 calls in each stream.
        warm_up: how long to call before, in all streams.
        streams: threads that call at once, for throughput, 256 at most. How many threads each call runs on is the
            program's; the helpers of one stream are not those of another (`lower86.runtime.streams`).

    Raises InputError for a number that makes no sense; what `call` raises is raised.
    """
    if not (0 <= seconds < math.inf and 0 <= warm_up < math.inf and 1 <= streams <= MOST_STREAMS):
        raise InputError(
            f"seconds={seconds}, warm_up={warm_up}, streams={streams}",
            where="benchmark",
            fix=f"pass numbers that are not below 0, and from 1 to {MOST_STREAMS} streams",
        )
    start = time.perf_counter()
    call(*inputs, **named)
    first = time.perf_counter() - start
    taken: list[list[float]] = [[] for _ in range(streams)]
    begun: list[Quiet] = []
    problems: list[BaseException] = []
    gate = threading.Barrier(streams, action=lambda: begun.append(Quiet()))

    def work(mine: list[float]) -> None:
        try:
            with own_helpers() if streams > 1 else contextlib.nullcontext():
                warm = start + warm_up
                while not problems and time.perf_counter() < warm:
                    call(*inputs, **named)
                if streams > 1:
                    call(*inputs, **named)  # each stream has memory of its own, made at its first call
                gate.wait()
                until = time.perf_counter() + seconds
                while not problems and (time.perf_counter() < until or len(mine) < 10):
                    begin = time.perf_counter()
                    call(*inputs, **named)
                    mine.append(time.perf_counter() - begin)
        except threading.BrokenBarrierError:
            pass  # another stream has failed
        except BaseException as problem:  # of any stream, for who asked
            problems.append(problem)
            gate.abort()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken[1:]]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as problem:
        gate.abort()
        problems.append(_too_many(streams, started + 1, problem))
    work(taken[0])
    for thread in threads[:started]:
        thread.join()
    if problems:
        raise problems[0]
    (quiet,) = begun
    return _measured(sorted(one for mine in taken for one in mine), streams, quiet.seconds(), first, quiet.others())


def _too_many(streams: int, started: int, problem: RuntimeError) -> InputError:
    return InputError(
        f"of {streams} streams, this process could begin {started}: {problem}",
        where="benchmark",
        fix="ask for fewer streams",
    )


def _measured(ordered: list[float], streams: int, wall: float, first: float, others: float) -> Benchmark:
    p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    mean = sum(ordered) / len(ordered)
    return Benchmark(len(ordered), streams, wall, first, mean, p50, p90, p99, ordered[-1], others)
