"""Threads that help programs run: the pool's memory and helpers, and how many threads a call gets.

The pool itself is machine code (`codegen/pool.py`). A helper is a Python thread inside one native call that lasts until
the last program is gone, without the GIL. The memory is never freed: a helper may still be in it while the interpreter
goes away.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import operator
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from functools import cache

from ..codegen.pool_memory import AWAKE, LINE, POOL_BYTES, REST
from ..counted import counted
from ..errors import InputError, Lower86Warning
from .code_cache import cached
from .container import container_cpus
from .machine_code import MachineCode

MOST_THREADS = 1024
_JOIN_SECONDS = 0.5


_CPU = "x86-64"
"""Nothing in the pool is worth a newer instruction set, and so it is the same everywhere."""


def _pool_code() -> bytes:
    from ..codegen.llvm import object_code
    from ..codegen.pool import build_pool  # the code generator, which a hit does without

    return object_code(build_pool().text(), _CPU, "")


class _Native:
    """The pool's functions, callable; Python's lock is released while they run."""

    def __init__(self, disk: bool) -> None:
        code = MachineCode(cached({f"pool for {_CPU}": _pool_code}, disk=disk).values())
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
    """Helper threads, started when a call first wants them, and the memory in which they meet their callers.

    They stay as long as a program is there that may call again (`serve`), and start anew with the next one's calls.
    """

    def __init__(self, *, disk: bool = True, like: Pool | None = None) -> None:
        """`like` is a pool whose machine code it takes; without, it has its own, from the cache if `disk`."""
        self._native: _Native = _Native(disk) if like is None else like._native
        self._served: set[int] = set()
        self._numbers = itertools.count()
        self.renew()

    def renew(self) -> None:
        """Starts over with memory of its own and no helpers, as a forked child must."""
        self._lock = threading.Lock()
        self._helpers: list[threading.Thread] = []
        self._leaving: list[threading.Thread] = []
        self._limit, self._unused, self._stopped = 0, False, False
        allocate = ctypes.CDLL(None).aligned_alloc
        allocate.restype, allocate.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
        self._memory: int = allocate(LINE, POOL_BYTES)
        ctypes.memset(self._memory, 0, POOL_BYTES)

    def serve(self, program: object) -> None:
        """Keeps the helpers until `program` is gone, and all others that are served."""
        number = next(self._numbers)
        self._served.add(number)
        weakref.finalize(program, self._left, number).atexit = False

    def run(self, steps_address: int, count: int, status_address: int, threads: int) -> int:
        """Runs `count` step records in order on up to `threads` threads, the caller being one of them.

        Returns -1, or the index of the step after which the 64-bit word at `status_address` was not 0; the steps after
        it have not run. Any number of Python threads may call at once; of different `threads` above 1 the latest says
        how many helpers are awake, and none takes part in more than its call may have.
        """
        if threads > 1 and threads - 1 != self._limit:
            self._set_limit(threads - 1)
        return self._native.run(self._memory, steps_address, count, status_address, threads)

    def _set_limit(self, limit: int) -> None:
        with self._lock:
            if self._stopped:
                return
            if self._leaving:
                self._begin_again()
            for number in range(len(self._helpers), limit):
                helper = threading.Thread(
                    target=self._native.worker, args=(self._memory, number), name=f"lower86-{number}", daemon=True
                )
                try:
                    helper.start()
                except RuntimeError as error:
                    # A program never needs helpers: the callers do what nobody else does.
                    count = counted(number + 1, "thread")
                    warnings.warn(Lower86Warning(f"lower86 runs with {count}: {error}"), stacklevel=4)
                    break
                self._helpers.append(helper)
            self._native.limit(self._memory, limit)
            self._limit = limit
        if self._unused:
            self._dismiss()

    def _begin_again(self) -> None:
        """Makes the memory that of a pool without helpers again: when the last ones have left it, for good."""
        for helper in self._leaving:
            helper.join()
        self._leaving.clear()
        self._native.limit(self._memory, 0)
        ctypes.c_int32.from_address(self._memory + REST).value = AWAKE

    def _left(self, number: int) -> None:
        self._served.discard(number)
        if not self._served:
            self._unused = True
            self._dismiss()

    def _dismiss(self) -> None:
        """Sends the helpers away if nobody is served: they return as soon as they see it.

        This may run within garbage collection, wherever a thread happens to be, in `_set_limit` too: it waits for
        nothing. Whoever has the lock looks at `_unused` when it has let go of it.
        """
        while self._unused and self._lock.acquire(blocking=False):
            try:
                self._unused = False
                if not self._served and not self._stopped:
                    self._native.stop(self._memory)
                    self._leaving += self._helpers
                    self._helpers, self._limit = [], 0
            finally:
                self._lock.release()

    def stop(self) -> None:
        """Ends the helpers, for good; calls run on their callers alone from now on."""
        with self._lock:
            self._stopped = True
            self._native.stop(self._memory)
        patience = time.monotonic() + _JOIN_SECONDS
        for helper in (*self._helpers, *self._leaving):
            helper.join(max(0.0, patience - time.monotonic()))


_pool: Pool | None = None
_creating = threading.Lock()
_chosen: int | None = None


def pool(*, disk: bool = True) -> Pool:
    """The process's pool, made at the first call; without `disk`, its machine code then comes from no file."""
    global _pool
    if _pool is None:
        with _creating:
            if _pool is None:
                made = Pool(disk=disk)
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

    Programs that were given a number of their own keep it. Raises InputError unless `n` is a whole number from 1 to
    `MOST_THREADS`.
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
    """Read once: a limit that changes while the process runs is not seen."""
    allowed = container_cpus()
    return MOST_THREADS if allowed is None else allowed
