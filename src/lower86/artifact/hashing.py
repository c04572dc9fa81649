"""SHA-256 of what is added, by a thread of its own: of MiniLM's 58 MB it takes half as long as the rest of a load."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import Any


class Hashing:
    """Used as a context: with an error the thread ends early, without one it ends with `digest`."""

    def __init__(self) -> None:
        self._hash, self._given_up = hashlib.sha256(), False
        self._parts: queue.SimpleQueue[bytes | memoryview | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = threading.Thread(target=self._work, name="lower86-hash", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            self._thread = None

    def add(self, part: bytes | memoryview) -> None:
        """Takes the next bytes, which must stay as they are until `digest`."""
        if self._thread is None:
            self._hash.update(part)
        else:
            self._parts.put(part)

    def digest(self) -> str:
        """The hash of all that was added, in hex; nothing can be added after it."""
        self._parts.put(None)
        if self._thread is not None:
            self._thread.join()
        return self._hash.hexdigest()

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self._given_up = True
            self._parts.put(None)

    def _work(self) -> None:
        while (part := self._parts.get()) is not None:
            if not self._given_up:
                self._hash.update(part)
            del part  # before it waits: what is not needed any more is let go
