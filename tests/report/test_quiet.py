"""What counts as others' time: all but this process's own, and that of children which have ended."""

from __future__ import annotations

import os

import pytest

from lower86.report import quiet
from lower86.report.quiet import Quiet


def test_children_are_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    own, busy, wall = iter([(1.0, 1, 1, 1, 0), (1.5, 1.5, 4, 2, 0)]), iter([100.0, 108.0]), iter([0.0, 10.0])
    monkeypatch.setattr(os, "times", lambda: os.times_result(next(own)))
    monkeypatch.setattr(quiet, "_busy", lambda: next(busy))
    monkeypatch.setattr(quiet.time, "monotonic", lambda: next(wall))
    assert Quiet().others() == pytest.approx((8 - 5) / 20)
