"""The object code cache: hits build nothing, what cannot be trusted is made anew, trouble costs only the cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lower86.codegen.target import Target
from lower86.program.body import Body
from lower86.program.kernels import Pointwise
from lower86.runtime import code_cache

KERNEL = Pointwise((17,), Body(), 1, 32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "objects"
    monkeypatch.setenv("LOWER86_CACHE_DIR", str(place))
    code_cache.forget()
    return place


def compiled() -> bytes:
    """The kernel's object code as a new process would get it."""
    code_cache.forget()
    return code_cache.object_for(KERNEL, Target.host())


def test_a_hit_builds_no_ir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled()
    assert (code_cache.counters.hits, code_cache.counters.compiled) == (0, 1)
    monkeypatch.setattr(code_cache, "compile_kernel", lambda *_: pytest.fail("compiled again"))
    assert compiled() == first
    assert (code_cache.counters.hits, code_cache.counters.misses) == (1, 0)
    (entry,) = folder.iterdir()
    assert entry.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("change", ["truncate", "flip", "empty", "writable", "grow"])
def test_an_entry_that_cannot_be_trusted_is_made_anew(folder: Path, change: str) -> None:
    good = compiled()
    (entry,) = folder.iterdir()
    content = entry.read_bytes()
    if change == "writable":
        entry.chmod(0o666)
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        changed = {"truncate": content[:-1], "flip": flipped, "empty": b"", "grow": content + b"x"}
        entry.write_bytes(changed[change])
    assert compiled() == good
    assert code_cache.counters.compiled == 1
    assert compiled() == good
    assert code_cache.counters.hits == 1


def test_a_folder_that_others_can_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    compiled()
    assert list(folder.iterdir()) == []
    compiled()
    assert code_cache.counters.compiled == 1


def test_no_place_to_write_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (str(tmp_path / "file" / "objects"), ""):
        monkeypatch.setenv("LOWER86_CACHE_DIR", place)
        assert compiled()
        assert code_cache.counters.compiled == 1


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    code_cache.sweep(tmp_path, 250)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_another_target_is_another_entry(folder: Path) -> None:
    compiled()
    code_cache.object_for(KERNEL, Target("avx512_vnni", "x86-64-v4", Target.host().features))
    assert len(list(folder.iterdir())) == 2
