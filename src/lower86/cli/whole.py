"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..errors import Lower86Error


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> int:
    """Lets `write` fill a file beside its place, then moves it there; its size in bytes.

    Raises Lower86Error where it cannot be written; nothing is left there then.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.resolve().parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                size = file.tell()
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as problem:
        raise _unwritable(path, problem.strerror or str(problem)) from problem
    return size


def check_writable(path: Path) -> None:
    """Raises Lower86Error where no such file could be written, before the work that it is to hold."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise _unwritable(path, "No such file or directory")
    if path.is_dir():
        raise _unwritable(path, "Is a directory")
    if not os.access(folder, os.W_OK):
        raise _unwritable(path, "Permission denied")


def _unwritable(path: Path, said: str) -> Lower86Error:
    return Lower86Error(
        f"{path} cannot be written: {said}",
        where="--output",
        fix="choose a folder that exists, can be written to and has room",
    )
