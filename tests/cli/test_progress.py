"""Progress is said on stderr to who looks at it, and to nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from lower86.cli.progress import shown, working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, as_json: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with working("measuring", as_json):
        pass
    return stream.getvalue()


def test_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "measuring …" in said(monkeypatch, Terminal())
    assert said(monkeypatch, Terminal(), as_json=True) == ""
    assert said(monkeypatch, io.StringIO()) == ""
    assert not shown(False)


def test_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert said(monkeypatch, Terminal()) == "measuring …\n"
