"""`lower86.load`: from a file to a program that runs on this CPU, without PyTorch."""

from __future__ import annotations

import os
from functools import partial

from ..codegen.target import Target, resolve_target
from ..program.limits import Limits
from ..runtime.host import known_host
from .format import Contents, reading
from .loaded import LoadedProgram
from .saved import Saved, from_contents


def load(
    path: str | os.PathLike[str],
    *,
    target: str | Target | None = None,
    num_threads: int | None = None,
    cache: bool = True,
    limits: Limits | None = None,
) -> LoadedProgram:
    """A saved model, checked, packed and compiled for this CPU.

    Args:
        path: a file that `lower86.save` wrote, on any x86 machine. It is only data: whatever it holds, nothing of it is
            executed, and everything is checked before it is used.
        target: a `Target`, a level's name, or None for this CPU. Integer results are the same bits on every level.
        num_threads: threads a call runs on; None for what `lower86.set_num_threads` says, or the machine offers.
        cache: whether machine code is taken from the user's cache and kept there.
        limits: the most that the program, and any call of it, may take of memory and, as estimated, of time; None for
            the machine's memory and an hour. What takes more is refused before anything is allocated or run.

    Returns:
        A callable that takes NumPy arrays, tensors or anything with DLPack, and gives the same kind.

    Raises:
        ArtifactError: the file cannot be read, is damaged, made up, or of another version.
        TargetError: the CPU lacks the instructions.
        InputError: `num_threads` is no number of threads, or the program takes more than `limits`.
    """
    chosen = resolve_target(target, partial(known_host, disk=cache))
    _, saved = opened(path)
    return LoadedProgram(saved, chosen, num_threads, cache, limits or Limits.of_machine())


def opened(path: str | os.PathLike[str]) -> tuple[Contents, Saved]:
    """What a file holds and what it means, checked but not compiled."""
    with reading(path) as contents:
        saved = from_contents(contents, os.fspath(path))
    return contents, saved
