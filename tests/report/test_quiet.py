"""What counts as others' time: all but this process's own, and that of children which have ended."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from lower86.report import quiet
from lower86.report.quiet import Quiet


def test_children_are_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own, busy, wall = iter([(1.0, 1, 1, 1, 0), (1.5, 1.5, 4, 2, 0)]), iter([100.0, 108.0]), iter([0.0, 10.0])
    # Names of that module alone: any thread of the process may ask the real clock meanwhile.
    monkeypatch.setattr(quiet, "os", SimpleNamespace(cpu_count=lambda: 2, times=lambda: os.times_result(next(own))))
    monkeypatch.setattr(quiet, "_busy", lambda: next(busy))
    monkeypatch.setattr(quiet, "time", SimpleNamespace(monotonic=lambda: next(wall)))
    assert Quiet().others() == pytest.approx((8 - 5) / 20)
