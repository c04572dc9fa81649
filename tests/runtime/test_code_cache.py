"""The object code cache: hits build nothing, trouble costs only the cache, processes share the work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lower86.codegen.target import Target
from lower86.program.body import Body
from lower86.program.kernels import Pointwise
from lower86.runtime import cache_folder, code_cache
from lower86.runtime.cache_folder import entries

KERNEL = Pointwise((17,), Body(), 1, 32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "objects"
    monkeypatch.setenv("LOWER86_CACHE_DIR", str(place))
    code_cache.forget()
    return place


def compiled(*, disk: bool = True) -> bytes:
    """The kernel's object code as a new process would get it."""
    code_cache.forget()
    return code_cache.object_for(KERNEL, Target.host(), disk=disk)


def test_a_hit_builds_no_ir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled()
    assert (code_cache.counters.hits, code_cache.counters.compiled) == (0, 1)
    monkeypatch.setattr(code_cache, "compile_kernel", lambda *_: pytest.fail("compiled again"))
    assert compiled() == first
    assert (code_cache.counters.hits, code_cache.counters.misses) == (1, 0)
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("change", ["flip", "writable"])
def test_an_entry_that_cannot_be_trusted_is_made_anew(folder: Path, change: str) -> None:
    good = compiled()
    (entry,) = (folder / found.name for found in entries(folder))
    if change == "writable":
        entry.chmod(0o666)
    else:
        content = entry.read_bytes()
        entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert compiled() == good
    assert code_cache.counters.compiled == 1
    assert compiled() == good
    assert code_cache.counters.hits == 1


def test_without_the_disk_nothing_is_read_or_written(folder: Path) -> None:
    good = compiled(disk=False)
    assert not folder.exists()
    compiled()
    assert compiled(disk=False) == good
    assert code_cache.counters.compiled == 1


def test_no_place_to_write_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (str(tmp_path / "file" / "objects"), ""):
        monkeypatch.setenv("LOWER86_CACHE_DIR", place)
        assert compiled()
        assert code_cache.counters.compiled == 1


def test_sources_that_are_not_there_leave_no_entries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version's code could not be told from this one's."""
    monkeypatch.setattr(code_cache, "_generator", lambda: None)
    compiled()
    compiled()
    assert code_cache.counters.compiled == 1
    assert not folder.exists()


def test_the_cache_stays_within_its_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "MOST_BYTES", 100_000)
    monkeypatch.setattr(code_cache, "_writes", 0)  # those of other tests in this process decide when the next look is
    for number in range(40):
        code_cache.cached({f"text {number}": lambda: bytes(10_000)})
        time.sleep(0.002)  # so that the order of their times is theirs
    assert sum(entry.size for entry in entries(folder)) > 300_000, "not every write looks at the total"
    for number in range(40, 130):
        code_cache.cached({f"text {number}": lambda: bytes(100)})
    assert sum(entry.size for entry in entries(folder)) < 120_000


def test_no_home_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a user has none, "~" stays as it is: it would be a folder of that name, wherever one happens to be."""
    monkeypatch.delenv("LOWER86_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/lower86")
    assert code_cache.directory() is None
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "/home/x/.cache/lower86")
    assert code_cache.directory() == Path("/home/x/.cache/lower86/objects")


def test_another_target_is_another_entry(folder: Path) -> None:
    compiled()
    code_cache.object_for(KERNEL, Target("avx512_vnni", "x86-64-v4", Target.host().features))
    assert len(entries(folder)) == 2


CROWD = """
import os, sys, time
from functools import partial
from lower86.runtime import code_cache

def make(number):
    time.sleep(0.03)
    return bytes([number]) * 1000

code_cache._PATIENCE = 600.0  # on a crowded machine, one may lose its core for longer than others usually wait
sys.stdin.readline()  # all begin at once
made = code_cache.cached({f"text {number}": partial(make, number) for number in range(12)})
assert [made[f"text {number}"][0] for number in range(12)] == list(range(12))
print(code_cache.counters.compiled)
"""


def crowd(script: str, count: int) -> list[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(count)]


def test_processes_that_start_at_once_share_the_work(folder: Path) -> None:
    processes = crowd(CROWD, 4)
    time.sleep(0.8)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate()[0]) for process in processes]
    assert sum(counts) == 12
    assert len(entries(folder)) == 12
    assert not [name for name in os.listdir(folder) if name.startswith(".new")]


def test_one_that_hangs_holds_nobody_up_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_PATIENCE", 0.2)
    keys = list[str]()
    real = cache_folder.read
    monkeypatch.setattr(cache_folder, "read", lambda place, key: keys.append(key) or real(place, key))
    code_cache.cached({"text": lambda: b"once"})
    cache_folder.clear(folder)
    code_cache.forget()
    with cache_folder.claimed(folder, keys[0]) as mine:
        assert mine
        start = time.monotonic()
        assert code_cache.cached({"text": lambda: b"again"}) == {"text": b"again"}
        assert 0.2 <= time.monotonic() - start < 5
