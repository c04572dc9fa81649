"""Turns in random order, and ratios within a round, which a machine that slows down does not bend."""

from __future__ import annotations

import pytest

from lower86.report import turns
from lower86.report.turns import CALLS_A_TURN, interleave, medians, ratios, samples


def test_everyone_has_a_turn_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SETTLING", 0.0)
    heard: list[str] = []
    rounds = list(interleave({name: lambda name=name: heard.append(name) for name in "abc"}, 8))
    assert [list(one) for one in rounds] == [["a", "b", "c"]] * 8
    assert all(len(times) == CALLS_A_TURN for one in rounds for times in one.values())
    orders = {tuple(dict.fromkeys(heard[i : i + 3 * (CALLS_A_TURN + 1)])) for i in range(0, len(heard), 18)}
    assert len(orders) > 1


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [{"a": [1.0], "b": [2.0]}, {"a": [10.0], "b": [20.0]}, {"a": [3.0], "b": [6.0]}]
    assert ratios(rounds, "a") == {"a": 1.0, "b": 2.0}
    assert medians(rounds) == {"a": 3.0, "b": 6.0}
    assert samples(rounds)["a"] == [1.0, 3.0, 10.0]
