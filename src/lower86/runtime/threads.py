"""Threads that help programs run: the pool's memory and helpers, and how many threads a call gets.

The pool itself is machine code (`codegen/pool.py`). A helper is a Python thread inside one native call that lasts until
exit, without the GIL. Nothing here is freed: a helper may still be in the code while the interpreter goes away.
"""

from __future__ import annotations

import atexit
import ctypes
import operator
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

from ..codegen.llvm import LoadedCode, object_code
from ..codegen.pool import LINE, POOL_BYTES, build_pool
from ..errors import InputError, Lower86Warning

MOST_THREADS = 1024
_JOIN_SECONDS = 0.5


class _Native:
    """The pool's functions, callable; Python's lock is released while they run."""

    def __init__(self) -> None:
        # Nothing in it is worth a newer instruction set, and so it is the same everywhere.
        code = LoadedCode([object_code(build_pool().text(), "x86-64", "")])
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        self.run: Callable[[int, int, int, int, int], int] = ctypes.CFUNCTYPE(
            integer, pointer, pointer, integer, pointer, integer
        )(code.address("lower86_run"))
        numbered = ctypes.CFUNCTYPE(None, pointer, integer)
        self.worker: Callable[[int, int], None] = numbered(code.address("lower86_worker"))
        self.limit: Callable[[int, int], None] = numbered(code.address("lower86_limit"))
        self.stop: Callable[[int], None] = ctypes.CFUNCTYPE(None, pointer)(code.address("lower86_stop"))


class Pool:
    """Helper threads, started when a call first wants them, and the memory in which they meet their callers."""

    def __init__(self) -> None:
        self._native = _Native()
        self.renew()

    def renew(self) -> None:
        """Starts over with memory of its own and no helpers, as a forked child must."""
        self._lock = threading.Lock()
        self._helpers: list[threading.Thread] = []
        self._limit, self._stopped = 0, False
        allocate = ctypes.CDLL(None).aligned_alloc
        allocate.restype, allocate.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
        self._memory: int = allocate(LINE, POOL_BYTES)
        ctypes.memset(self._memory, 0, POOL_BYTES)

    def run(self, steps_address: int, count: int, status_address: int, threads: int) -> int:
        """Runs `count` step records in order on up to `threads` threads, the caller being one of them.

        Returns -1, or the index of the step after which the 64-bit word at `status_address` was not 0; the steps after
        it have not run. Any number of Python threads may call at once; the latest `threads` above 1 holds for all.
        """
        if threads > 1 and threads - 1 != self._limit:
            self._set_limit(threads - 1)
        return self._native.run(self._memory, steps_address, count, status_address, threads)

    def _set_limit(self, limit: int) -> None:
        with self._lock:
            if self._stopped:
                return
            for number in range(len(self._helpers), limit):
                helper = threading.Thread(
                    target=self._native.worker, args=(self._memory, number), name=f"lower86-{number}", daemon=True
                )
                try:
                    helper.start()
                except RuntimeError as error:
                    # A program never needs helpers: the callers do what nobody else does.
                    warnings.warn(Lower86Warning(f"lower86 runs with {number + 1} threads: {error}"), stacklevel=4)
                    break
                self._helpers.append(helper)
            self._native.limit(self._memory, limit)
            self._limit = limit

    def stop(self) -> None:
        """Ends the helpers, for good; calls run on their callers alone from now on."""
        with self._lock:
            self._stopped = True
            self._native.stop(self._memory)
        patience = time.monotonic() + _JOIN_SECONDS
        for helper in self._helpers:
            helper.join(max(0.0, patience - time.monotonic()))


_pool: Pool | None = None
_creating = threading.Lock()
_chosen: int | None = None


def pool() -> Pool:
    """The process's pool, made at the first call."""
    global _pool
    if _pool is None:
        with _creating:
            if _pool is None:
                made = Pool()
                atexit.register(made.stop)
                _pool = made
    return _pool


def _after_fork() -> None:
    global _creating
    _creating = threading.Lock()
    if _pool is not None:
        _pool.renew()


os.register_at_fork(after_in_child=_after_fork)


def set_num_threads(n: int | None) -> None:
    """Programs run on `n` threads from now on, whatever the machine offers; None goes back to `default_threads`' rule.

    Raises InputError unless `n` is a whole number from 1 to `MOST_THREADS`.
    """
    global _chosen
    _chosen = None if n is None else thread_count(n, "set_num_threads(n)")


def thread_count(n: int, where: str) -> int:
    """`n` as a number of threads. Raises InputError, which names `where`, unless it is one from 1 to `MOST_THREADS`."""
    try:
        number = operator.index(n)
    except TypeError:
        number = 0
    if isinstance(n, bool) or not 1 <= number <= MOST_THREADS:
        raise InputError(
            f"not a number of threads: {n!r}",
            where=where,
            fix=f"pass a whole number from 1 to {MOST_THREADS}, or None for what this machine offers",
        )
    return number


def default_threads() -> int:
    """Threads a call runs on: what `set_num_threads` said, else what process, container and PyTorch allow."""
    if _chosen is not None:
        return _chosen
    limits = [len(os.sched_getaffinity(0)), _container_cpus()]
    # PyTorch's own default is the machine's cores, whatever the container may use: a limit among others.
    torch_threads = getattr(sys.modules.get("torch"), "get_num_threads", None)
    if torch_threads is not None:
        limits.append(torch_threads())
    return max(1, min(limits))


@cache
def _container_cpus() -> int:
    cpus = MOST_THREADS
    try:
        membership = Path("/proc/self/cgroup").read_text()
    except OSError:
        return cpus
    for names in quota_files(membership):
        try:
            quota = cpu_quota(" ".join(Path(name).read_text() for name in names))
        except (OSError, ValueError):
            continue  # this is not where this system keeps it
        if quota is not None:
            # Rounded down: a thread too many has the whole process stopped until the quota's next period.
            cpus = max(1, min(cpus, int(quota)))
    return cpus


def quota_files(membership: str) -> list[tuple[str, ...]]:
    """Where CPU limits may stand, from the text of `/proc/self/cgroup`: files whose texts, joined, `cpu_quota` reads.

    The limit of every folder above the process's own holds too. In a container the first may exist only outside it.
    """
    files: list[tuple[str, ...]] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        here = PurePosixPath(path)
        for folder in (str(f).rstrip("/") for f in (here, *here.parents)):
            if not controllers:
                files += [(f"{root}{folder}/cpu.max",) for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]
            elif "cpu" in controllers.split(","):
                root = f"/sys/fs/cgroup/{controllers}{folder}"
                files.append((f"{root}/cpu.cfs_quota_us", f"{root}/cpu.cfs_period_us"))
    return files


def cpu_quota(text: str) -> float | None:
    """CPUs that "quota period", two times, allow; None for no limit: a quota of `max` (cgroup v2) or -1 (v1).

    Raises ValueError if the text is something else.
    """
    quota, period = text.split()
    if quota == "max" or int(quota) < 0:
        return None
    return int(quota) / max(1, int(period))
