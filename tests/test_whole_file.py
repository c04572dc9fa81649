"""A file takes its place when it is whole; whatever happens before that, what was there stays, alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from lower86.whole_file import write_whole


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"the old one, which is longer")
    path.chmod(0o600)

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        assert path.read_bytes() == b"the old one, which is longer"
        (beside,) = set(os.listdir(tmp_path)) - {"file"}
        assert stat.S_IMODE((tmp_path / beside).stat().st_mode) == 0o600  # nobody else reads half a file

    before = os.umask(0o027)
    try:
        assert write_whole(path, write) == 3
        assert write_whole(str(tmp_path / "other"), lambda file: file.write(b""), lasting=True) == 0
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_a_file_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_whole("file", lambda file: file.write(b"here")) == 4
    assert (tmp_path / "file").read_bytes() == b"here"


def test_its_size_is_what_is_in_the_file(tmp_path: Path) -> None:
    """Wherever the writer left off: one that goes back to fill in a header does not stand at the end."""

    def write(file: BinaryIO) -> None:
        file.write(b"----content")
        file.seek(0)
        file.write(b"head")

    assert write_whole(tmp_path / "file", write) == 11
    assert (tmp_path / "file").read_bytes() == b"headcontent"


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "file"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    write_whole(link, lambda file: file.write(b"new"))
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"old", b"new", False)


@pytest.mark.parametrize("where", ["write", "chmod", "replace", "fsync"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_never_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, problem: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise problem

    def write(file: BinaryIO) -> None:
        file.write(b"half of it")
        if where == "write":
            fail()

    with monkeypatch.context() as patch:
        if where != "write":
            patch.setattr(os, where, fail)
        with pytest.raises(type(problem)) as caught:
            write_whole(path, write, lasting=True)
    assert caught.value is problem
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_where_no_file_can_be(tmp_path: Path) -> None:
    """A device has a name that a file could take, and must not: as root that would be the end of /dev/null."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    called: list[object] = []
    for name, kind, said in (
        ("missing/file", FileNotFoundError, "No such file"),
        ("folder", IsADirectoryError, "Is a directory"),
        ("pipe", OSError, "a device or a pipe"),
        ("/dev/null", OSError, "a device or a pipe"),
    ):
        with pytest.raises(kind, match=said):
            write_whole(tmp_path / name, called.append)
    assert called == []
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
