"""Files that are there whole or not at all: written beside their place, then moved there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable
from typing import BinaryIO


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object], *, lasting: bool = False) -> int:
    """Lets `write` fill a new file, which then takes the place of `path`; its size in bytes.

    A file that is there stays as it was until the new one is whole, and if anything is raised. The new one has the
    permissions that any new file of this process has. A link is replaced, not followed. With `lasting`, it is on the
    disk when this returns, so that not even a machine that stops leaves half of it.

    Raises OSError where it cannot be written, also for a device or a pipe, whose place no file should take; what
    `write` raises is raised.
    """
    name = os.path.abspath(os.fspath(path))
    _refuse_others(name)
    folder = os.path.dirname(name)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            size = os.fstat(file.fileno()).st_size
            if lasting:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # private until it is whole
        os.replace(temporary, name)
    except BaseException:  # an interrupt, too, leaves nothing behind
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if lasting:
        _synchronize(folder)
    return size


def _refuse_others(name: str) -> None:
    """As the system says it. What is not there, or cannot be looked at, is left to whoever writes."""
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe", name)


def _synchronize(folder: str) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synchronized
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)


def _umask() -> int:
    """What this process takes from new files; to ask means to set it, so it is read where the system tells."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("Umask:")).split()[1], 8)
    return 0o077
