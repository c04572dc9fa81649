"""A lock that is free in a forked child, whoever held it in the parent: that thread is not there to let go of it."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class ForkLock:
    """As `threading.Lock`, for `with` alone. What it guards may be half done in a child forked meanwhile."""

    def __init__(self) -> None:
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


_all: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in _all:
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)
