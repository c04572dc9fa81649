"""The hash of parts, by a thread that never stays behind."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from lower86.artifact.hashing import Hashing

PARTS = [b"", b"abc", bytes(3_000_000), np.arange(500_000).data, b"x"]


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "lower86-hash"]


def test_it_is_that_of_all_parts_in_order() -> None:
    hashing = Hashing()
    assert running()
    for part in PARTS:
        hashing.add(part)
    assert hashing.digest() == hashlib.sha256(b"".join(map(bytes, PARTS))).hexdigest() == hashing.digest()
    assert not running()


def test_without_threads_it_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hashing = Hashing()
    for part in PARTS:
        hashing.add(part)
    assert hashing.digest() == hashlib.sha256(b"".join(map(bytes, PARTS))).hexdigest()


def test_an_error_ends_the_thread() -> None:
    hashing = Hashing()
    with pytest.raises(KeyError), hashing:
        raise KeyError
    assert hashing._thread is not None
    hashing._thread.join(5)
    assert not running()
