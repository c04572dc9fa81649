"""Helpers of a caller's own: for threads that call at once and each want several threads.

The process's pool gives its first helpers to whichever call is there, so that two calls on two threads each share one
helper. A caller who has a pool to itself shares with nobody: so many streams, times so many threads, are busy.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator

from .threads import Pool, pool


class _Stream:
    """What a pool serves for as long as a block lasts."""


class _Own(threading.local):
    """A thread's own pool, if it has one."""

    pool: Pool | None = None


_own = _Own()
_made: list[Pool] = []
_idle: list[Pool] = []


def helpers_here(shared: Pool) -> Pool:
    """The pool of the calling thread: its own, or `shared`."""
    return _own.pool or shared


@contextlib.contextmanager
def own_helpers() -> Iterator[None]:
    """Calls of this thread get helpers that no other thread has, until the block ends: as many as a call may have.

    For a thread that calls while others do, on several threads a call. It costs those threads, not the weights again.
    """
    if _own.pool is not None:
        yield
        return
    try:
        mine = _idle.pop()
    except IndexError:
        mine = Pool(like=pool())
        _made.append(mine)
        atexit.register(mine.stop)
    stream = _Stream()
    mine.serve(stream)
    _own.pool = mine
    try:
        yield
    finally:
        _own.pool = None
        del stream  # which sends the helpers away
        _idle.append(mine)


def _after_fork() -> None:
    for one in _made:
        one.renew()


os.register_at_fork(after_in_child=_after_fork)
