"""Percentiles of what was measured, the same wherever lower86 tells one."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """The first of these values, which ascend, that at least `share` of the others lie below; the last for 1."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
