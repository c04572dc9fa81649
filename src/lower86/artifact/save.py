"""`lower86.save`: a lowered module as one file, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from typing import Any

from ..errors import ArtifactError, UnsupportedError
from ..report.environment import versions
from .format import MOST_HEADER_BYTES, MOST_TENSORS, Contents, Stored, write
from .saved import Saved, from_contents, to_contents

_RECORDED = ("lower86", "torch", "torchao")


def save(lowered: Any, path: str | os.PathLike[str]) -> int:
    """Writes a lowered module to a `.safetensors` file that `lower86.load` runs on any x86 machine without PyTorch.

    The file holds what the module is now: its graph as edited, its state as the last call left it. It is written beside
    its place and moved there, so that a file of this name is never half of one.

    Args:
        lowered: what `lower_pt2e_quantized_to_x86` returned.
        path: where to; a file that is there is replaced.

    Returns:
        The file's size in bytes.

    Raises:
        UnsupportedError: a step of the model runs in PyTorch, or it takes or returns what a file cannot describe.
        ArtifactError: the file cannot be written.
    """
    portable = getattr(lowered, "portable", None)
    if portable is None:
        raise UnsupportedError(
            f"a {type(lowered).__name__} is not a lowered module",
            where="lower86.save(lowered, path)",
            fix="pass what lower_pt2e_quantized_to_x86 returned; a loaded program's file can be copied",
        )
    program, interface, explanation, state = portable()
    metadata, tensors = to_contents(Saved(program, interface, explanation, state, versions(_RECORDED)))
    name = os.fspath(path)
    _check(metadata, tensors, name)
    try:
        return _written(name, metadata, tensors)
    except OSError as problem:
        raise ArtifactError(
            f"{name} cannot be written: {problem.strerror or problem}",
            where="lower86.save",
            fix="choose a folder that exists, can be written to and has room; nothing was left there",
        ) from problem


def _check(metadata: dict[str, str], tensors: dict[str, Stored], name: str) -> None:
    """A file that is written can be loaded."""
    size = len(json.dumps(metadata)) + 200 * len(tensors)
    problem = f"{size} bytes of description, {len(tensors)} tensors"
    problem = problem if size > MOST_HEADER_BYTES or len(tensors) >= MOST_TENSORS else ""
    try:
        from_contents(Contents(metadata, tensors, size, ""), name)
    except ArtifactError as error:
        problem = f"{error.what} ({error.where})"
    if problem:
        raise UnsupportedError(
            f"the model is beyond what a file may hold: {problem}",
            where="lower86.save",
            fix="lower and save it in parts",
        )


def _written(name: str, metadata: Any, tensors: Any) -> int:
    folder = os.path.dirname(os.path.abspath(name))
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            size = write(file, metadata, tensors)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # private until it is whole
        os.replace(temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # not every file system lets a folder be synchronized
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
    return size


def _umask() -> int:
    """What this process takes from new files; to ask means to set it, so it is read where the system tells."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("Umask:")).split()[1], 8)
    return 0o077
