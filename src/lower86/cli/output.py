"""What `--output` names: whether a file can be written there, and writing it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import Lower86Error
from ..whole_file import write_whole


def write_output(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Lets `write` fill the file, which is there whole or not at all; its size in bytes.

    Raises Lower86Error where it cannot be written.
    """
    try:
        return write_whole(path, write)
    except OSError as problem:
        raise _unwritable(path, problem.strerror or str(problem)) from problem


def check_writable(path: Path) -> None:
    """Raises Lower86Error where no such file could be written, before the work that it is to hold."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise _unwritable(path, "No such file or directory")
    if path.is_dir():
        raise _unwritable(path, "Is a directory")
    if path.exists() and not path.is_file():
        raise _unwritable(path, "it is a device or a pipe")
    if not os.access(folder, os.W_OK):
        raise _unwritable(path, "Permission denied")


def _unwritable(path: Path, said: str) -> Lower86Error:
    return Lower86Error(
        f"{path} cannot be written: {said}",
        where="--output",
        fix="choose a folder that exists, can be written to and has room",
    )
