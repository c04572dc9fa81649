"""What `lower86.benchmark` says about calls whose times are known."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

import lower86
from lower86.report.benchmark import MOST_STREAMS, Benchmark
from lower86.report.quiet import Quiet
from lower86.runtime.streams import helpers_here
from lower86.runtime.threads import pool

benchmark_file = importlib.import_module("lower86.report.benchmark")  # which the function of that name hides


def test_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, now = itertools.count(), 0.0
    clock = SimpleNamespace(perf_counter=lambda: now, monotonic=lambda: now)
    for module in ("benchmark", "quiet"):
        monkeypatch.setattr(f"lower86.report.{module}.time", clock)

    def call(pause: float, *, every: int) -> None:
        nonlocal now
        now += pause * (10 if next(turns) % every == every - 1 else 1)

    found = lower86.benchmark(call, 0.002, seconds=0.5, warm_up=0.0, every=10)
    assert 130 <= found.calls <= 135
    assert (found.first, found.p50, found.worst) == pytest.approx((0.002, 0.002, 0.02))
    assert found.p50 <= found.p90 <= found.p99 <= found.worst
    assert found.mean * found.calls == pytest.approx(found.wall)
    assert found.throughput == pytest.approx(found.calls / found.wall)
    assert f"{1e3 * found.p99:.3f}" in str(found)
    assert found.to_dict()["throughput"] == found.throughput


def test_streams_call_at_once() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1

    found = lower86.benchmark(call, seconds=0.1, warm_up=0.0, streams=3)
    assert most == 3
    assert found.calls >= 30


def test_a_stream_that_fails_stops_the_others() -> None:
    calls = threading.local()

    def call() -> None:
        calls.count = getattr(calls, "count", 0) + 1
        if threading.current_thread() is not threading.main_thread() and calls.count == 2:
            raise ValueError("in a stream, when it measures")

    with pytest.raises(ValueError, match="when it measures"):
        lower86.benchmark(call, seconds=60.0, warm_up=0.0, streams=3)


def test_streams_have_helpers_of_their_own() -> None:
    shared, seen = pool(), set[int]()

    def call() -> None:
        seen.add(id(helpers_here(shared)))

    lower86.benchmark(call, seconds=0.0, warm_up=0.0, streams=3)
    assert len(seen) == 4  # and the shared one's at the very first call
    assert id(shared) in seen


def test_few_calls_are_measured_however_long_they_take() -> None:
    assert lower86.benchmark(lambda: time.sleep(0.001), seconds=0.0, warm_up=0.0).calls == 10


def test_errors() -> None:
    def call() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("in a stream")

    with pytest.raises(ValueError, match="in a stream"):
        lower86.benchmark(call, seconds=5.0, warm_up=0.0, streams=2)
    for wrong in ({"streams": 0}, {"seconds": -1.0}, {"warm_up": -1.0}):
        with pytest.raises(lower86.InputError, match="benchmark"):
            lower86.benchmark(call, **wrong)  # type: ignore[arg-type]  # a float for streams, as users may


def test_noise_is_said() -> None:
    found = Benchmark(10, 1, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2)
    assert not found.quiet
    assert "not quiet" in str(found)
    assert "20%" in str(found)


def test_own_time_is_not_others() -> None:
    quiet = Quiet()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert 0 <= quiet.others() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"warm_up": float("nan")},
        {"warm_up": float("inf")}, {"streams": 0}, {"streams": MOST_STREAMS + 1},
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(lower86.InputError, match=r"seconds=.*, warm_up=.*, streams="):
        lower86.benchmark(lambda: pytest.fail("nothing is to be called"), **wrong)


def test_as_many_streams_as_there_may_be() -> None:
    assert lower86.benchmark(lambda: None, seconds=0.0, warm_up=0.0, streams=MOST_STREAMS).calls >= 10 * MOST_STREAMS


def test_threads_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def scarce(thread: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    monkeypatch.setattr(benchmark_file, "own_helpers", contextlib.nullcontext)
    with pytest.raises(lower86.InputError, match="of 5 streams, this process could begin 3: can't start new thread"):
        lower86.benchmark(lambda: None, seconds=60.0, warm_up=60.0, streams=5)
    assert not any(thread.is_alive() for thread in begun)
