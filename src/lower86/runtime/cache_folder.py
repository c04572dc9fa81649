"""A folder of entries that only this user can have written, each with a checksum: bytes kept between processes.

What is read here is executed, so nothing is read that somebody else could have written: the folder and the entry belong
to this user, nobody else may write to them, and they are looked at through the descriptors that are then read. Trouble
of any kind (no folder, a full disk, a file system without locks) costs the entry and nothing else.

The folder may hold other things; only names of the patterns below are ever touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 256 << 20
"""What all entries together may take; the least recently used go first."""

_MAGIC = b"lower86 object 1\n"
_HEAD = len(_MAGIC) + 32
_ENTRY = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.new-[0-9a-f]{16}")
_LOCK = re.compile(r"\.lock-[0-9a-f]{2}")
_LOCKS = 64
_STALE_SECONDS = 3600  # a temporary this old was left by a process that died


@dataclass(frozen=True)
class Entry:
    """One file: its name, its size in bytes, when it was last used (seconds since the epoch)."""

    name: str
    size: int
    used: float


def refusal(folder: Path) -> str | None:
    """Why nothing can be read from the folder, or None if it can."""
    try:
        with _opened(folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def read(folder: Path, key: str) -> bytes | None:
    """The entry's bytes, or None if there is none that can be trusted."""
    try:
        with _opened(folder) as place, _file(place, key, os.O_RDONLY) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or not _is_ours(status) or status.st_size > MOST_BYTES:
                return None
            content = _all_of(file, status.st_size)
            data = content[_HEAD:]
            if content[:_HEAD] != _MAGIC + hashlib.sha256(data).digest():
                return None
            with contextlib.suppress(OSError):
                os.utime(file)  # the least recently used go first
            return data
    except OSError:
        return None


def write(folder: Path, key: str, data: bytes) -> bool:
    """Keeps an entry: written beside its place and moved there, so that nobody ever reads half of one."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(folder) as place:
            name = f".new-{secrets.token_hex(8)}"
            try:
                with _file(place, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                    _write_all(file, _MAGIC + hashlib.sha256(data).digest() + data)
                os.replace(name, key, src_dir_fd=place, dst_dir_fd=place)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=place)
                raise
    except OSError:
        return False
    return True


@contextlib.contextmanager
def claimed(folder: Path, key: str) -> Iterator[bool]:
    """Holds the right to make the entry, without waiting: False while another process has it.

    Where nothing can be locked everybody may: work is then repeated, not lost. The system lets go of the lock with the
    process that holds it.
    """
    with contextlib.ExitStack() as held:
        mine = True
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = held.enter_context(_opened(folder))
            file = held.enter_context(_file(place, f".lock-{int(key[:2], 16) % _LOCKS:02x}", os.O_RDWR | os.O_CREAT))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        except OSError:
            pass
        yield mine


def entries(folder: Path) -> list[Entry]:
    """All entries, the least recently used first; none if the folder cannot be used."""
    return sorted(_named(folder, _ENTRY), key=lambda entry: entry.used)


def sweep(folder: Path, most: int) -> None:
    """Deletes the least recently used entries until the rest takes at most `most` bytes, and what was left half done.

    Files that other processes are writing now stay.
    """
    with contextlib.suppress(OSError), _opened(folder) as place:
        stale = time.time() - _STALE_SECONDS
        gone = [entry.name for entry in _named(folder, _TEMPORARY) if entry.used < stale]
        kept = entries(folder)
        total = sum(entry.size for entry in kept)
        for entry in kept:
            if total <= most:
                break
            gone.append(entry.name)
            total -= entry.size
        _delete(place, gone)


def clear(folder: Path) -> tuple[int, int]:
    """Deletes all entries and what else was made here; how many entries, and how many bytes they took."""
    found = entries(folder)
    others = [entry.name for pattern in (_TEMPORARY, _LOCK) for entry in _named(folder, pattern)]
    with contextlib.suppress(OSError), _opened(folder) as place:
        _delete(place, [*(entry.name for entry in found), *others])
    left = {entry.name for entry in entries(folder)}
    deleted = [entry.size for entry in found if entry.name not in left]
    return len(deleted), sum(deleted)


def _is_ours(status: os.stat_result) -> bool:
    """Whether only this user can have written it."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder, however it is reached. Raises OSError unless it is there and private."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if status.st_uid != os.geteuid():
            raise PermissionError(0, "it belongs to another user")
        if not _is_ours(status):
            raise PermissionError(0, "other users can write to it")
        yield place
    finally:
        os.close(place)


@contextlib.contextmanager
def _file(place: int, name: str, flags: int) -> Iterator[int]:
    # Neither a link is followed, nor does the open of a pipe wait for its other end.
    file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=place)
    try:
        yield file
    finally:
        os.close(file)


def _all_of(file: int, size: int) -> bytes:
    parts = []
    while size and (part := os.read(file, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _named(folder: Path, pattern: re.Pattern[str]) -> Iterator[Entry]:
    try:
        with _opened(folder) as place:
            for name in os.listdir(place):
                if not pattern.fullmatch(name):
                    continue
                with contextlib.suppress(OSError):  # another process was faster
                    status = os.stat(name, dir_fd=place, follow_symlinks=False)
                    yield Entry(name, status.st_size, status.st_mtime)
    except OSError:
        return


def _delete(place: int, names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=place)
