"""Compiled kernels, kept in this process and on disk, so that the next process with the same ones builds no IR.

An entry's name is the hash of everything its bytes depend on: the kernel's description, the sources of the generator,
the CPU and its features, the version of LLVM. Processes that start at once share the work: each makes what no other is
making, and waits for the rest; one that dies or hangs costs the others a while, and repeated work.

One file a kernel: MiniLM's 14 are found in 1.5 ms, and models share the kernels they have in common.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from ..codegen.llvm_identity import llvm_identity
from ..codegen.target import Target
from ..program.kernels import Kernel
from . import cache_folder

_SWEEP_EVERY = 64  # writes between looks at the total size
_PATIENCE = 10.0  # seconds for what other processes are making
_LOOK_AGAIN = 0.003
_REMEMBERED = 4096


@dataclass
class Counters:
    """What the cache did in this process: `compiled` counts kernels that had to be built."""

    hits: int = 0
    misses: int = 0
    compiled: int = 0


counters = Counters()
_memory: dict[str, bytes] = {}
_writes = 0


def directory() -> Path | None:
    """Where entries lie: `LOWER86_CACHE_DIR`, or the user's cache folder; None if that variable is set but empty."""
    chosen = os.environ.get("LOWER86_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("lower86", appauthor=False)) / "objects"
    return folder if folder.is_absolute() else None  # a user without a home


@cache
def _generator() -> str | None:
    """A hash of the sources that decide what code a kernel becomes; None where they are not there to be read."""
    package = Path(__file__).parent.parent
    digest, found = hashlib.sha256(llvm_identity().encode()), False
    for folder in ("codegen", "program"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
            found = True
    return digest.hexdigest() if found else None


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """The kernel's object code, made now. Only here is the code generator imported: a hit does without."""
    from ..codegen.compile import compile_kernel

    return compile_kernel(kernel, target)


def object_for(kernel: Kernel, target: Target, *, disk: bool = True) -> bytes:
    """The kernel's object code: from this process, from disk, or compiled now."""
    return objects_for([kernel], target, disk=disk)[0]


def objects_for(kernels: Sequence[Kernel], target: Target, *, disk: bool = True) -> list[bytes]:
    """The object code of each kernel. Without `disk`, nothing is read from the cache's folder or written there."""
    texts = [f"{target!r}\n{kernel!r}" for kernel in kernels]
    makers = {text: partial(_compiled, kernel, target) for text, kernel in zip(texts, kernels, strict=True)}
    made = cached(makers, disk=disk)
    return [made[text] for text in texts]


def _compiled(kernel: Kernel, target: Target) -> bytes:
    return compile_kernel(kernel, target)


def cached(makers: Mapping[str, Callable[[], bytes]], *, disk: bool = True) -> dict[str, bytes]:
    """What each maker makes: kept from before, or made now.

    The text by which it goes says, together with the sources of the generator, everything that the result depends on.
    """
    generator = _generator()
    folder = directory() if disk and generator is not None else None
    keys = {text: hashlib.sha256(f"{generator}\n{text}".encode()).hexdigest() for text in makers}
    found: dict[str, bytes] = {}
    for text, key in keys.items():
        data = _memory.get(key) or _from(folder, key)
        if data is not None:
            found[text] = data
    missing = [text for text in keys if text not in found]
    counters.misses += len(missing)
    give_up = time.monotonic() + _PATIENCE
    while missing:
        for text in missing:
            # What another process is making comes last: by then it may be there.
            data = _made(folder, keys[text], makers[text], wait=time.monotonic() < give_up)
            if data is not None:
                found[text] = data
        left = [text for text in missing if text not in found]
        if len(left) == len(missing):
            time.sleep(_LOOK_AGAIN)
        missing = left
    if len(_memory) > _REMEMBERED:
        _memory.clear()
    _memory.update((keys[text], data) for text, data in found.items())
    return found


def _from(folder: Path | None, key: str) -> bytes | None:
    data = None if folder is None else cache_folder.read(folder, key)
    counters.hits += data is not None
    return data


def _made(folder: Path | None, key: str, make: Callable[[], bytes], *, wait: bool) -> bytes | None:
    """The bytes, made now or meanwhile by another process; None if another is still at it and we can `wait`."""
    global _writes
    if folder is None:
        counters.compiled += 1
        return make()
    with cache_folder.claimed(folder, key) as mine:
        if not mine and wait:
            return None
        data = _from(folder, key)
        if data is None:
            data = make()
            counters.compiled += 1
            if cache_folder.write(folder, key, data):
                _writes += 1
                if _writes % _SWEEP_EVERY == 1:
                    cache_folder.sweep(folder, cache_folder.MOST_BYTES)
    return data


def forget() -> None:
    """Drops what this process remembers (not the disk), and sets the counters to zero."""
    _memory.clear()
    counters.hits = counters.misses = counters.compiled = 0
