"""What LLVM says of this CPU, from the cache; which CPU it is said of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lower86.codegen.llvm import host_cpu_name, host_features
from lower86.codegen.target import LEVELS, Host, Target, resolve_target
from lower86.errors import TargetError
from lower86.runtime import code_cache, host, processor
from lower86.runtime.cache_folder import entries
from lower86.runtime.host import known_host

HERE = Host(host_cpu_name(), dict(host_features()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWER86_CACHE_DIR", str(tmp_path / "objects"))
    code_cache.forget()
    return tmp_path / "objects"


def test_it_is_asked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_host() == HERE
    code_cache.forget()
    monkeypatch.setattr(Host, "found", lambda: pytest.fail("asked again"))
    assert known_host() == HERE
    assert len(entries(folder)) == 1


def test_of_another_cpu_it_is_asked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_host() == HERE
    monkeypatch.setattr(host, "identity", lambda: "another")
    other = Host("znver1", {"avx2": True})
    monkeypatch.setattr(Host, "found", lambda: other)
    assert known_host() == other
    assert len(entries(folder)) == 2


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{}", b"[1]", b'{"cpu":1,"features":{}}', b'{"cpu":"x","features":{"avx2":1}}']
)
def test_an_answer_that_makes_no_sense_is_not_used(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(host, "cached", lambda makers: dict.fromkeys(makers, content))
    assert known_host() == HERE


def test_a_cpu_that_says_nothing_leaves_no_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "identity", lambda: None)
    assert known_host() == HERE
    monkeypatch.undo()
    assert known_host(disk=False) == HERE
    assert entries(folder) == []


def test_a_target_from_it_is_the_same_as_from_llvm() -> None:
    for level in [None, *(name for name, needs in LEVELS.items() if all(HERE.features.get(need) for need in needs))]:
        assert resolve_target(level, lambda: HERE) == Target.host(level=level)
    with pytest.raises(TargetError, match=r"this CPU \(pentium\) lacks avx2"):
        resolve_target("avx2", lambda: Host("pentium", {}))
    chosen = Target("avx2", "x86-64-v3", "")
    assert resolve_target(chosen, lambda: pytest.fail("asked")) == chosen


def test_every_core_is_the_same_cpu() -> None:
    cores = os.sched_getaffinity(0)
    found = set()
    try:
        for core in cores:
            os.sched_setaffinity(0, {core})
            found.add(processor.identity())
    finally:
        os.sched_setaffinity(0, cores)
    assert len(found) == 1
    (identity,) = found
    assert identity is not None
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        vendor = next(line.split()[-1] for line in file if line.startswith("vendor_id"))
    words = bytes.fromhex(identity)[4:16]
    assert (words[:4] + words[8:] + words[4:8]).decode() == vendor


def test_where_code_cannot_be_run_or_is_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(13, "no")

    with monkeypatch.context() as patched:
        patched.setattr(processor, "ExecutableMemory", refuse)
        assert processor.identity() is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor.identity() is None
