"""All items come by, in order, whatever shows how far it is."""

from __future__ import annotations

import sys

import pytest

from lower86.quantization.progress import tracking


def _goes_through(wanted: bool) -> list[int]:
    with tracking(wanted) as track:
        found = list(track([3, 1, 2], "Calibrate"))
        assert list(track([], "Nothing")) == []
        nested = [(a, b) for a in track([1, 2], "Outer") for b in track([3, 4], "Inner")]
    assert nested == [(1, 3), (1, 4), (2, 3), (2, 4)]
    return found


def test_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert _goes_through(False) == [3, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_stderr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert _goes_through(True) == [3, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert "Calibrate" in err
    assert "3/3" in err


def test_without_rich(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert _goes_through(True) == [3, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "Calibrate: 3"


def test_an_error_passes_through() -> None:
    def fails() -> None:
        with tracking(True) as track:
            for _ in track([1, 2], "Calibrate"):
                raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fails()
