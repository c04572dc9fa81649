"""The thread pool: every unit runs once, step after step, whoever calls, forks or leaves; and it rests when idle.

One file, as all of it runs the same kernels of machine code, made at the top, through the same two helpers.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lower86.codegen.builder import F64, I64, PTR, VOID, Code, Module
from lower86.codegen.llvm import LoadedCode, object_code
from lower86.codegen.pool_memory import RECORDS, SLICES
from lower86.errors import InputError, Lower86Warning
from lower86.runtime import threads
from lower86.runtime.threads import Pool, default_threads, pool, set_num_threads

SOURCE = Path(threads.__file__).parents[2]
GETTID = 186
FLUSH_DENORMALS = 0x9FC0


def _kernels() -> Module:
    module = Module("test_kernels")

    def kernel(name: str) -> Code:
        return module.function(name, VOID, PTR, I64)

    code = kernel("count")  # counters[unit] += 1
    counters, unit = code.arguments
    code.atomic("add", code.at(counters, code.mul(unit, 8)), code.i64(1))
    code.ret()

    code = kernel("reverse")  # {source, target, n}: target[unit] = source[n - 1 - unit] + 1
    table, unit = code.arguments
    source, target = (code.load(PTR, code.at(table, offset), align=8) for offset in (0, 8))
    last = code.sub(code.load(I64, code.at(table, 16), align=8), 1)
    value = code.load(I64, code.at(source, code.mul(code.sub(last, unit), 8)), align=8)
    code.store(code.add(value, 1), code.at(target, code.mul(unit, 8)), align=8)
    code.ret()

    code = kernel("fail")  # *status = 7
    status, _ = code.arguments
    code.store(code.i64(7), status, align=8)
    code.ret()

    code = kernel("who")  # thread[unit] = this thread, after some work
    table, unit = code.arguments
    with code.loop(0, 200):
        code.pause()
    thread = code.call(module.declare("syscall", I64, *[I64] * 7), [code.i64(GETTID), *[code.i64(0)] * 6])
    code.store(thread, code.at(table, code.mul(unit, 8)), align=8)
    code.ret()

    code = kernel("travel")  # cpus[unit] = the CPU this starts on, the CPU it ends on, milliseconds later
    table, unit = code.arguments
    place = code.at(table, code.mul(unit, 16))
    code.store(code.cpu(), place, align=8)
    with code.loop(0, 400_000):
        code.pause()
    code.store(code.cpu(), code.at(place, 8), align=8)
    code.ret()

    code = kernel("linger")  # some tens of microseconds
    with code.loop(0, 1000):
        code.pause()
    code.ret()

    code = kernel("halve")  # {x} /= 2, in double
    (table, _) = code.arguments
    half = code.constant(F64, 0.5)
    code.store(code.b.fmul(code.load(F64, table, align=8), half), table, align=8)
    code.ret()

    for name in ("ldmxcsr", "stmxcsr"):
        code = module.function(name, VOID, PTR)
        code.call(module.declare(f"llvm.x86.sse.{name}", VOID, PTR), code.arguments)
        code.ret()
    return module


CODE = LoadedCode([object_code(_kernels().text(), "x86-64", "")])
Words = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def steps(kernel: str, units: int | list[int] | Words, arguments: int | Words = 0, count: int = 1) -> Words:
    table = np.zeros((count, 4), np.int64)
    table[:, 0], table[:, 1], table[:, 2] = CODE.address(kernel), arguments, units
    return table


def run(table: Words, thread_count: int, status: Words | None = None, on: Pool | None = None) -> int:
    status = np.zeros(1, np.int64) if status is None else status
    return (on or pool()).run(table.ctypes.data, len(table), status.ctypes.data, thread_count)


def counting(generator: np.random.Generator, count: int, most: int) -> tuple[Words, Words]:
    """Regions of 2 to `most` units, and the counters of all their units, one after the other."""
    units = generator.integers(2, most + 1, count)
    counters = np.zeros(int(units.sum()), np.int64)
    return steps("count", units, counters.ctypes.data + 8 * (np.cumsum(units) - units), count), counters


@pytest.fixture
def own_pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.stop()


def test_a_million_regions_run_each_unit_once() -> None:
    table, counters = counting(np.random.default_rng(0), 10_000, 24)
    for turn in range(1, 101):
        assert run(table, 2 + turn % 3) == -1
        assert (counters == turn).all()


def test_a_step_begins_when_the_one_before_has_ended() -> None:
    n, count = 16, 50_000
    a, b = np.zeros(n, np.int64), np.zeros(n, np.int64)
    tables = np.array([[a.ctypes.data, b.ctypes.data, n, 0], [b.ctypes.data, a.ctypes.data, n, 0]])
    table = steps("reverse", n, tables.ctypes.data + 32 * (np.arange(count) % 2), count)
    assert run(table, 3) == -1
    assert (a == count).all()
    assert (b == count - 1).all()


def test_more_callers_than_records() -> None:
    callers = RECORDS + 4
    work = [counting(np.random.default_rng(i), 500, 40) for i in range(callers)]
    start, failed = threading.Barrier(callers), list[int]()

    def call(i: int) -> None:
        start.wait()
        table, counters = work[i]
        for turn in range(1, 41):
            if run(table, 4) != -1 or (counters != turn).any():
                failed.append(i)

    running = [threading.Thread(target=call, args=(i,)) for i in range(callers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failed


@pytest.mark.parametrize("thread_count", [0, 1, 2, 5, SLICES + 4])
@pytest.mark.parametrize("units", [0, 1, 2, 65_535, 65_536, 131_071, 200_000])
def test_unit_counts(units: int, thread_count: int) -> None:
    counters = np.zeros(units + 1, np.int64)
    assert run(steps("count", units, counters.ctypes.data), thread_count) == -1
    assert (counters[:units] == 1).all()
    assert counters[units] == 0


@pytest.mark.parametrize("thread_count", [1, 2])
@pytest.mark.parametrize("units", [1, 9])
def test_a_status_ends_the_run_after_its_step(units: int, thread_count: int) -> None:
    status, counters = np.zeros(1, np.int64), np.zeros(5 * units, np.int64)
    table = steps("count", units, counters.ctypes.data + 8 * units * np.arange(5), 5)
    table[3, :2] = CODE.address("fail"), status.ctypes.data
    assert run(table, thread_count, status) == 3
    assert status[0] == 7
    assert counters.reshape(5, units).max(1).tolist() == [1, 1, 1, 0, 0]
    assert run(table, thread_count, status) == 0, "a status that is already set lets one step run"
    assert run(table[:0], thread_count, status) == -1


def test_each_thread_begins_with_a_part_of_its_own(own_pool: Pool) -> None:
    """The same part in every region, so that it finds in its core's cache what it wrote; the rest is shared."""
    ids, half = np.zeros(32, np.int64), 16
    parts = set()
    for _ in range(500):  # a helper may come late, but not always
        run(steps("who", len(ids), ids.ctypes.data), 2, on=own_pool)
        first, second = set(ids[:half].tolist()), set(ids[half:].tolist())
        if len(first) == len(second) == 1 and first != second:
            parts.add((*first, *second))
    cores = len(os.sched_getaffinity(0))
    assert len(parts) == 1 or (cores == 1 and not parts)
    assert all(first == threading.get_native_id() for first, _ in parts)


def test_no_more_threads_than_asked_for(own_pool: Pool) -> None:
    ids = np.zeros(400, np.int64)
    table = steps("who", len(ids), ids.ctypes.data)
    run(table, 5, on=own_pool)
    for thread_count in (2, 3, 1):
        run(table, thread_count, on=own_pool)
        time.sleep(0.02)  # a helper that was looking for work when the limit fell may finish that look
        run(table, thread_count, on=own_pool)
        assert len(set(ids.tolist())) <= thread_count
    assert set(ids.tolist()) == {threading.get_native_id()}


def test_helpers_help_however_often_they_slept(own_pool: Pool) -> None:
    table, counters = counting(np.random.default_rng(6), 3, 9)
    pauses = np.random.default_rng(7).uniform(0, 100e-6, 5000)  # a helper falls asleep after some 25 µs
    for pause in pauses:
        until = time.perf_counter() + pause
        run(table, 3, on=own_pool)
        while time.perf_counter() < until:
            pass
    assert (counters == len(pauses)).all()
    ids = np.zeros(4000, np.int64)
    for _ in range(100):
        run(steps("who", len(ids), ids.ctypes.data), 2, on=own_pool)
        if len(set(ids.tolist())) == 2:
            return
    pytest.fail("only the caller took units")


def test_a_stopped_pool_runs_on_its_callers(own_pool: Pool) -> None:
    ids = np.zeros(50, np.int64)
    table = steps("who", len(ids), ids.ctypes.data)
    run(table, 3, on=own_pool)
    own_pool.stop()
    assert not [t for t in threading.enumerate() if t in own_pool._helpers]
    assert run(table, 4, on=own_pool) == -1
    assert set(ids.tolist()) == {threading.get_native_id()}


def test_of_two_calls_at_once_neither_gets_more_threads_than_it_may(own_pool: Pool) -> None:
    most, seen = {0: 2, 1: 4}, {0: set[int](), 1: set[int]()}
    start = threading.Barrier(2)

    def call(number: int) -> None:
        ids = np.zeros(256, np.int64)
        table = steps("who", len(ids), ids.ctypes.data)
        start.wait()
        for _ in range(400):
            run(table, most[number], on=own_pool)
            seen[number].add(len(set(ids.tolist())))

    callers = [threading.Thread(target=call, args=(number,)) for number in most]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert max(seen[0]) <= 2
    assert max(seen[1]) <= 4


class Served:
    """Stands for a program."""


def alive(own_pool: Pool) -> list[threading.Thread]:
    """Its helpers that are still there, after they have had time to go."""
    patience = time.monotonic() + 5
    while (left := [t for t in (*own_pool._helpers, *own_pool._leaving) if t.is_alive()]) and (
        time.monotonic() < patience and not own_pool._served
    ):
        time.sleep(0.001)
    return left


def test_helpers_leave_with_the_last_program_and_come_with_the_next(own_pool: Pool) -> None:
    table, counters = counting(np.random.default_rng(9), 20, 9)
    for turn in range(1, 31):
        first, second = Served(), Served()
        own_pool.serve(first)
        own_pool.serve(second)
        run(table, 3, on=own_pool)
        del first
        assert len(alive(own_pool)) == 2
        del second
        if turn % 2:  # else the next program comes while they are going
            assert alive(own_pool) == []
        run(table, 1, on=own_pool)
        assert (counters == 2 * turn).all()
    assert alive(own_pool) == []
    run(table, 3, on=own_pool)  # whoever is no program may still call
    assert len(own_pool._helpers) == 2


def test_helpers_help_again_after_a_break(own_pool: Pool) -> None:
    for _ in range(3):
        served = Served()
        own_pool.serve(served)
        ids = np.zeros(4000, np.int64)
        for _ in range(200):
            run(steps("who", len(ids), ids.ctypes.data), 2, on=own_pool)
            if len(set(ids.tolist())) == 2:
                break
        else:
            pytest.fail("only the caller took units")
        del served
        assert alive(own_pool) == []


def test_a_program_collected_while_helpers_start_waits_for_nothing(own_pool: Pool) -> None:
    """Garbage is collected anywhere: here within `Thread.start`, while the caller holds the pool's lock."""
    table, counters = counting(np.random.default_rng(10), 20, 9)
    held = [Served()]
    own_pool.serve(held[0])
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        held.clear()
        real(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        run(table, 3, on=own_pool)
    assert alive(own_pool) == []
    run(table, 3, on=own_pool)
    assert (counters == 2).all()


def test_programs_come_and_go_while_others_run(own_pool: Pool) -> None:
    wrong = list[int]()

    def work(number: int) -> None:
        table, counters = counting(np.random.default_rng(number), 20, 9)
        for turn in range(1, 201):
            served = Served()
            own_pool.serve(served)
            run(table, 2 + (turn + number) % 3, on=own_pool)
            del served
            if (counters != turn).any():
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert alive(own_pool) == []


def test_threads_that_cannot_start_are_done_without(own_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    table, counters = counting(np.random.default_rng(1), 10, 9)
    with pytest.warns(Lower86Warning, match="1 thread: can't start new thread"):
        run(table, 3, on=own_pool)
    run(table, 3, on=own_pool)
    assert (counters == 2).all()


def test_an_idle_pool_uses_no_cpu() -> None:
    table, counters = counting(np.random.default_rng(2), 100, 9)
    run(table, 4)
    assert (counters == 1).all()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.005


@pytest.mark.parametrize("thread_count", [1, 2])
def test_the_callers_float_settings_change_nothing_and_stay(thread_count: int) -> None:
    load, store = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(CODE.address(name)) for name in ("ldmxcsr", "stmxcsr"))
    usual, flushing, after = (np.zeros(1, np.uint32) for _ in range(3))
    numbers = np.full(32, 2.0**-1022)
    table = steps("halve", 1, numbers.ctypes.data + 8 * np.arange(32), 32)
    store(usual.ctypes.data)
    flushing[0] = FLUSH_DENORMALS
    load(flushing.ctypes.data)
    run(table, thread_count)
    store(after.ctypes.data)
    load(usual.ctypes.data)
    assert (numbers == 2.0**-1023).all()
    assert after[0] == FLUSH_DENORMALS


def _python(script: str) -> tuple[int, str, str, float]:
    """Exit code, output, errors and seconds of a Python process that has this file's names."""
    start, names = time.monotonic(), "import os, sys, threading, time\nfrom test_threads import *\n"
    done = subprocess.run(
        # Python 3.12 and later warn of every fork beside threads, which these tests are about.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", names + textwrap.dedent(script)],
        env={"PYTHONPATH": f"{SOURCE}:{Path(__file__).parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def test_a_forked_child_has_its_own_helpers() -> None:
    code, output, errors, _ = _python("""
        table, counters = counting(np.random.default_rng(3), 2000, 24)
        other, kept = counting(np.random.default_rng(4), 2000, 24)
        run(table, 3)
        busy, ended = True, threading.Event()
        def keep_busy():
            while busy:
                run(other, 3)
            ended.set()
        threading.Thread(target=keep_busy).start()
        for turn in range(8):  # while records are in use and helpers have units
            child = os.fork()
            if child == 0:
                assert not pool()._helpers
                run(table, 3)
                assert len(pool()._helpers) == 2
                print(counters.min(), counters.max(), flush=True)
                os._exit(0) if turn % 2 else sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        busy = False
        ended.wait()
        run(table, 3)
        print("parent", counters.min(), counters.max())
    """)
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["2 2"] * 8 + ["parent 2 2"]


def test_forks_of_forks_and_of_threads_run_beside_their_parents() -> None:
    code, output, errors, _ = _python("""
        def work(turns, seed):
            table, counters = counting(np.random.default_rng(seed), 500, 24)
            for _ in range(turns):
                run(table, 3)
            return bool((counters == turns).all())
        def fork(depth):
            child = os.fork()
            if child == 0:
                good = work(20, depth) and (depth == 0 or fork(depth - 1)) and work(5, depth)
                os._exit(0 if good else 1)
            good = work(20, 7)  # child and parent at once
            return os.waitpid(child, 0)[1] == 0 and good
        results = [work(3, 1), fork(2)]
        thread = threading.Thread(target=lambda: results.append(fork(1)))
        thread.start()
        results.append(work(50, 3))
        thread.join()
        print(results)
    """)
    assert (code, errors) == (0, "")
    assert output.strip() == "[True, True, True, True]"


def test_a_helper_leaves_its_callers_cpu() -> None:
    script = """
        allowed = sorted(os.sched_getaffinity(0))
        here, there = allowed[0], allowed[-1]
        # The other CPU is busy, so that the kernel has no reason to move anybody.
        forever = f"import os; os.sched_setaffinity(0, [{there}]); any(iter(int, 1))"
        busy = subprocess.Popen([sys.executable, "-c", forever])
        elsewhere = 0
        try:
            os.sched_setaffinity(0, {here})
            table, counters = counting(np.random.default_rng(3), 200, 24)
            run(table, 2)  # the helper starts with the caller's affinity
            (helper,) = pool()._helpers
            os.sched_setaffinity(helper.native_id, {here, there})
            for _ in range(40):
                end = time.monotonic() + 0.02
                while time.monotonic() < end:
                    run(table, 2)
                with open(f"/proc/self/task/{helper.native_id}/stat") as file:
                    elsewhere += int(file.read().rpartition(")")[2].split()[36]) != here
            patience = time.monotonic() + 5  # it may be on its way from one to the other just now
            while os.sched_getaffinity(helper.native_id) != {here, there}:
                assert time.monotonic() < patience
        finally:
            busy.kill()
            busy.wait()
        print(elsewhere if there != here else 40)  # one CPU leaves nowhere to go
    """
    found = []
    for _ in range(12):  # a busy machine may move threads for reasons of its own
        code, output, errors, _ = _python(script)
        assert (code, errors) == (0, "")
        found.append(int(output))
        if found[-1] >= 36:
            return
    pytest.fail(f"on another CPU in {found} of 40 samples; the kernel by itself moves it in 5 to 34")


def test_a_helper_without_a_core_gets_its_callers() -> None:
    script = """
        allowed = sorted(os.sched_getaffinity(0))
        here, there = allowed[0], allowed[-1]
        if here == there:
            print(60)  # nowhere to fetch it from
            sys.exit()
        forever = f"import os; os.sched_setaffinity(0, [{there}]); any(iter(int, 1))"
        busy = subprocess.Popen([sys.executable, "-c", forever])
        fetched = 0
        try:
            cpus = np.zeros((2, 2), np.int64)
            table = steps("travel", 2, cpus.ctypes.data, 1)
            run(table, 2)
            os.sched_setaffinity(threading.main_thread().native_id, {here})
            for _ in range(60):
                run(table, 2)
                fetched += (cpus == [there, here]).all(1).any()
        finally:
            busy.kill()
            busy.wait()
        print(fetched)
    """
    found = []
    for _ in range(12):  # beside a third process the helper may get no core in any region
        code, output, errors, _ = _python(script)
        assert (code, errors) == (0, "")
        found.append(int(output))
        if found[-1] >= 10:
            return
    pytest.fail(f"fetched in {found} of 60 regions; the kernel by itself moves a unit in up to 3")


def test_threads_that_were_moved_may_run_where_they_might_before() -> None:
    """More threads than CPUs, beside busy processes: all of them are moved about all the time."""
    code, output, errors, _ = _python("""
        allowed = os.sched_getaffinity(0)
        busy = [subprocess.Popen([sys.executable, "-c", "any(iter(int, 1))"]) for _ in range(2)]
        try:
            table = steps("linger", 12, count=50)
            def work():
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    run(table, 12)
            callers = [threading.Thread(target=work) for _ in range(2)]
            for caller in callers:
                caller.start()
            work()
            assert os.sched_getaffinity(0) == allowed, "so that processes that it starts may run there, too"
            for caller in callers:
                caller.join()
        finally:
            for one in busy:
                one.kill()
                one.wait()
        tasks = [int(task) for task in os.listdir("/proc/self/task")]
        patience = time.monotonic() + 5  # one may wait for a CPU with what it has to do
        while any(os.sched_getaffinity(task) != allowed for task in tasks) and time.monotonic() < patience:
            time.sleep(0.05)
        print(len(tasks) >= 12, all(os.sched_getaffinity(task) == allowed for task in tasks))
    """)
    assert (code, errors) == (0, "")
    assert output.strip() == "True True"


@pytest.mark.parametrize("work", ["pass", "time.sleep(0.05)", "threading.Thread(target=forever, daemon=True).start()"])
def test_exit_with_helpers(work: str) -> None:
    code, _, errors, seconds = _python(f"""
        table, kept = counting(np.random.default_rng(5), 2000, 24)
        def forever():
            while True:
                run(table, 4)
        run(table, 4)
        {work}
    """)
    assert (code, errors) == (0, "")
    assert seconds < 20, "that is mostly the start of Python on a busy machine"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine of 12 CPUs without limits, where PyTorch is not loaded."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(threads, "_container_cpus", lambda: threads.MOST_THREADS)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield monkeypatch
    set_num_threads(None)


def test_default_threads_is_the_least_limit(machine: pytest.MonkeyPatch) -> None:
    assert default_threads() == 12
    machine.setattr(threads, "_container_cpus", lambda: 7)
    assert default_threads() == 7
    torch = types.ModuleType("torch")
    machine.setitem(sys.modules, "torch", torch)
    assert default_threads() == 7, "a PyTorch that is being imported has no say yet"
    torch.get_num_threads = lambda: 3
    assert default_threads() == 3
    set_num_threads(9)
    assert default_threads() == 9
    set_num_threads(None)
    assert default_threads() == 3


def test_a_limit_of_the_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, expected in ((None, threads.MOST_THREADS), (2, 2)):
        monkeypatch.setattr(threads, "container_cpus", lambda allowed=allowed: allowed)
        assert threads._container_cpus.__wrapped__() == expected


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True, threads.MOST_THREADS + 1])
def test_set_num_threads_refuses(machine: pytest.MonkeyPatch, wrong: int) -> None:
    with pytest.raises(InputError, match="not a number of threads"):
        set_num_threads(wrong)
    assert default_threads() == 12
    set_num_threads(int(np.int64(5)))


def test_set_num_threads_takes_any_whole_number(machine: pytest.MonkeyPatch) -> None:
    set_num_threads(np.int64(5))  # an integer by __index__
    assert default_threads() == 5
