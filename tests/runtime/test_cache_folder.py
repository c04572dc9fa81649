"""Entries on disk: what others could write is not read, trouble costs the entry, only known names are touched."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lower86.runtime import cache_folder
from lower86.runtime.cache_folder import claimed, clear, entries, read, refusal, sweep, write

KEY, OTHER = "0a" * 32, "0b" * 32
DATA = bytes(range(256)) * 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "deep" / "objects"
    assert write(place, KEY, DATA)
    return place


def test_what_is_written_is_read_and_private(folder: Path) -> None:
    assert read(folder, KEY) == DATA
    assert read(folder, OTHER) is None
    assert write(folder, KEY, b"")
    assert read(folder, KEY) == b""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600
    assert [entry.name for entry in entries(folder)] == [KEY]
    assert os.listdir(folder) == [KEY]


@pytest.mark.parametrize("change", ["truncate", "flip", "empty", "grow", "group", "others", "link", "folder", "pipe"])
def test_an_entry_that_cannot_be_trusted_is_none(folder: Path, change: str) -> None:
    entry = folder / KEY
    content = entry.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    changed = {"truncate": content[:-1], "flip": flipped, "empty": b"", "grow": content + b"x"}
    if change in changed:
        entry.write_bytes(changed[change])
    elif change in ("group", "others"):
        entry.chmod(0o620 if change == "group" else 0o602)
    else:
        entry.rename(folder / "elsewhere")
        if change == "link":
            entry.symlink_to(folder / "elsewhere")
        elif change == "folder":
            entry.mkdir()
        else:
            os.mkfifo(entry, 0o600)
    assert read(folder, KEY) is None
    rewritten = write(folder, KEY, DATA)
    assert rewritten == (change != "folder")
    assert read(folder, KEY) == (DATA if rewritten else None)
    assert not [name for name in os.listdir(folder) if name.startswith(".new")]


def as_others(monkeypatch: pytest.MonkeyPatch, inode: int) -> None:
    """Makes the file with this number look like another user's."""
    real = os.fstat

    def fstat(descriptor: int) -> Any:
        status = real(descriptor)
        if status.st_ino != inode:
            return status
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:]))

    monkeypatch.setattr(os, "fstat", fstat)


def test_another_users_entry_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_others(monkeypatch, (folder / KEY).stat().st_ino)
    assert read(folder, KEY) is None
    assert write(folder, KEY, DATA)  # in its place, a new file
    monkeypatch.undo()
    assert read(folder, KEY) == DATA


@pytest.mark.parametrize("way", ["direct", "link"])
def test_another_users_folder_is_not_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    place = folder
    if way == "link":
        place = tmp_path / "link"
        place.symlink_to(folder)
        assert read(place, KEY) == DATA, "a link of one's own to a folder of one's own is fine"
    as_others(monkeypatch, folder.stat().st_ino)
    assert refusal(place) == "it belongs to another user"
    assert read(place, KEY) is None
    assert not write(place, OTHER, DATA)
    assert entries(place) == []
    assert clear(place) == (0, 0)
    monkeypatch.undo()
    assert os.listdir(folder) == [KEY]


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, mode: int) -> None:
    assert refusal(folder) is None
    folder.chmod(mode)
    assert refusal(folder) == "other users can write to it"
    assert read(folder, KEY) is None
    assert not write(folder, OTHER, DATA)
    assert os.listdir(folder) == [KEY]
    with claimed(folder, KEY) as mine:
        assert mine


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("function", ["write", "replace", "mkdir", "open"])
def test_a_full_or_read_only_disk_costs_only_the_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    real = os.open

    def fail(*args: Any, **kwargs: Any) -> Any:
        if function == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    place = folder / "new" if function == "mkdir" else folder
    assert not write(place, OTHER, DATA)
    with claimed(place, OTHER) as mine:
        assert mine
    assert read(folder, KEY) == DATA
    monkeypatch.undo()
    assert not [name for name in os.listdir(folder) if name.startswith(".new")]


def test_a_folder_below_a_file_costs_only_the_entry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    place = tmp_path / "file" / "objects"
    assert not write(place, KEY, DATA)
    assert read(place, KEY) is None
    assert refusal(place) == "Not a directory"
    with claimed(place, KEY) as mine:
        assert mine


def test_the_least_recently_used_go_first(folder: Path) -> None:
    keys = [f"{i:064x}" for i in range(5)]
    for age, key in enumerate(keys):
        write(folder, key, DATA)
        os.utime(folder / key, (1000 - age, 1000 - age))
    assert read(folder, keys[4]) == DATA  # the oldest, but used now
    size = (folder / KEY).stat().st_size
    sweep(folder, 3 * size)
    assert {entry.name for entry in entries(folder)} == {KEY, keys[4], keys[0]}
    assert entries(folder)[0].name == keys[0]


def test_only_known_names_are_touched(folder: Path) -> None:
    """The folder may be anybody's choice: somebody's home, for one."""
    (folder / "precious").write_bytes(bytes(99))
    (folder / "photographs").mkdir()
    (folder / ".new-things").write_text("mine")
    sweep(folder, 0)
    assert entries(folder) == []
    write(folder, KEY, DATA)
    with claimed(folder, KEY) as mine:
        assert mine
    assert clear(folder) == (1, len(DATA) + 49)
    assert sorted(os.listdir(folder)) == [".new-things", "photographs", "precious"]


def test_a_sweep_leaves_what_is_being_written_and_removes_what_was_left(folder: Path) -> None:
    new, old = (folder / f".new-{digit * 16}" for digit in "ab")
    for path in (new, old):
        path.write_bytes(b"half of an entr")
    before = time.time() - 2 * 3600
    os.utime(old, (before, before))
    sweep(folder, 10**6)
    assert sorted(os.listdir(folder)) == [new.name, KEY]


def test_one_claim_at_a_time(folder: Path) -> None:
    with claimed(folder, KEY) as mine:
        assert mine
        with claimed(folder, KEY) as again:
            assert not again
        with claimed(folder, OTHER) as other:
            assert other
    with claimed(folder, KEY) as mine:
        assert mine


def test_a_claim_ends_with_its_process(folder: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from lower86.runtime.cache_folder import claimed
with claimed(Path({str(folder)!r}), {KEY!r}) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with claimed(folder, KEY) as mine:
            assert not mine
        process.kill()
    with claimed(folder, KEY) as mine:
        assert mine


def test_without_locks_everybody_may(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(cache_folder.fcntl, "flock", refuse)
    with claimed(folder, KEY) as mine, claimed(folder, KEY) as again:
        assert mine
        assert again
