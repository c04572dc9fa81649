"""The search asks little and ends with what is needed, for any set of layers that has to be float."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from lower86.tuning.search import order_of, shortest, taken_back

NAMES = [f"layer{i}" for i in range(40)]


def _asker(wanted: set[str]) -> tuple[Callable[[Sequence[str]], bool], list[frozenset[str]]]:
    asked: list[frozenset[str]] = []

    def meets(floats: Sequence[str]) -> bool:
        asked.append(frozenset(floats))
        return wanted <= set(floats)

    return meets, asked


def test_layers_that_give_more_for_less_come_first() -> None:
    noise = {"loud": 10.0, "quiet": 60.0, "costly": 10.0, "free": 20.0}
    saved = {"loud": 1e-3, "quiet": 1e-3, "costly": 5e-3, "free": -1e-4}
    assert order_of(noise, {}, saved, 1e-2) == ["free", "loud", "costly", "quiet"]


def test_a_measured_effect_counts_for_more_than_noise() -> None:
    noise = {"loud": 10.0, "harmful": 20.0, "harmless": 15.0, "unknown": 18.0}
    order = order_of(noise, {"loud": 0.01, "harmful": 0.4, "harmless": -0.01}, dict.fromkeys(noise, 1e-3), 1.0)
    assert order == ["harmful", "unknown", "loud", "harmless"]


@pytest.mark.parametrize("needed", [0, 1, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 32, 39, 40])
def test_the_shortest_beginning(length: int, needed: int) -> None:
    needed = min(needed, length)
    meets, asked = _asker(set(NAMES[:length]))
    assert shortest(NAMES, meets, needed) == length
    assert len(asked) <= 12
    assert all(needed <= len(floats) < len(NAMES) for floats in asked), "both ends are known"


def test_needless_layers_are_taken_back() -> None:
    for wanted in ({"layer0"}, {"layer0", "layer7"}, {"layer3", "layer4"}, set(NAMES[:8]), {"layer7"}):
        meets, _ = _asker(wanted)
        assert set(taken_back(NAMES[:8], meets)) == wanted
    meets, asked = _asker({"layer0", "layer1"})
    assert taken_back(NAMES[:2], meets, 2) == NAMES[:2]
    assert taken_back(NAMES[:16], meets, 2) == NAMES[:2]
    assert len(asked) == 1
