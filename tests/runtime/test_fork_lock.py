"""A lock that another thread holds at a fork is free in the child, and still held in the parent."""

from __future__ import annotations

import os
import threading
import warnings

from lower86.runtime.fork_lock import ForkLock


def test_a_forked_child_finds_it_free() -> None:
    lock, held, done = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forking with threads: that is the point
        child = os.fork()
    if child == 0:
        with lock:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    entered = threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    other = threading.Thread(target=enter)
    other.start()
    assert not entered.wait(0.05)
    done.set()
    assert entered.wait(5)
    holder.join()
    other.join()


def test_it_is_let_go_of_after_an_error() -> None:
    lock = ForkLock()
    for _ in range(2):
        try:
            with lock:
                raise ValueError
        except ValueError:
            pass
