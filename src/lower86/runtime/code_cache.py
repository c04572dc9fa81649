"""Compiled kernels on disk, so that the next process with the same kernels builds no IR.

An entry is a file whose name is the hash of everything its bytes depend on: the kernel's description, the sources of
the generator, the CPU and its features, the version of LLVM. It begins with a checksum. Entries are private to the
user: one that somebody else could have written is ignored and written anew, because its bytes would be executed. Losing
the cache, a full disk or a read-only one cost compile time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from ..codegen.compile import compile_kernel
from ..codegen.llvm import VERSION
from ..codegen.target import Target
from ..program.kernels import Kernel

_MAGIC = b"lower86 object 1\n"
_MOST_BYTES = 256 << 20
_SWEEP_EVERY = 64  # writes between looks at the total size


@dataclass
class Counters:
    """What the cache did in this process: `compiled` counts kernels that had to be built."""

    hits: int = 0
    misses: int = 0
    compiled: int = 0


counters = Counters()
_memory: dict[str, bytes] = {}
_lock = threading.Lock()
_writes = 0


def directory() -> Path | None:
    """Where entries lie: `LOWER86_CACHE_DIR`, or the user's cache folder; None if that variable is set but empty."""
    chosen = os.environ.get("LOWER86_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    return Path(platformdirs.user_cache_dir("lower86", appauthor=False)) / "objects"


@cache
def _generator() -> str:
    """A hash of the sources that decide what code a kernel becomes."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(VERSION.encode())
    for folder in ("codegen", "program"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def object_for(kernel: Kernel, target: Target) -> bytes:
    """The kernel's object code: from this process, from disk, or compiled now."""
    material = "\n".join((_generator(), repr(target), repr(kernel)))
    key = hashlib.sha256(material.encode()).hexdigest()
    return cached(key, lambda: compile_kernel(kernel, target))


def cached(key: str, make: Callable[[], bytes]) -> bytes:
    """The bytes kept under `key`, or else made now and kept."""
    with _lock:
        known = _memory.get(key)
    if known is not None:
        return known
    folder = directory()
    data = _read(folder / key) if folder is not None else None
    if data is None:
        counters.misses += 1
        data = make()
        counters.compiled += 1
        if folder is not None:
            _write(folder, key, data)
    else:
        counters.hits += 1
    with _lock:
        _memory[key] = data
    return data


def _is_ours(status: os.stat_result) -> bool:
    """Whether only this user can have written it."""
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(path: Path) -> bytes | None:
    """The entry's bytes, or None if there is none that can be trusted."""
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())) or not _is_ours(os.stat(path.parent)):
                return None
            content = file.read()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    data = content[head:]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) : head] != hashlib.sha256(data).digest():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the least recently used go first
    return data


def _write(folder: Path, key: str, data: bytes) -> None:
    """Keeps an entry: written beside its place and moved there, so that nobody ever reads half of one."""
    global _writes
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(os.stat(folder)):
            return
        descriptor, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(data).digest() + data)
            os.replace(name, folder / key)
        except OSError:
            os.unlink(name)
            return
        _writes += 1
        if _writes % _SWEEP_EVERY == 1:
            sweep(folder, _MOST_BYTES)
    except OSError:
        return


def sweep(folder: Path, most: int) -> None:
    """Deletes the least recently used entries until the rest takes at most `most` bytes."""
    entries = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except OSError:
            continue  # another process was faster
        entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size


def forget() -> None:
    """Drops what this process remembers (not the disk), and sets the counters to zero."""
    with _lock:
        _memory.clear()
    counters.hits = counters.misses = counters.compiled = 0
