"""Percentiles are values that were measured."""

from __future__ import annotations

import pytest

from lower86.report.percentile import percentile


@pytest.mark.parametrize(
    ("count", "share", "place"),
    [
        (1, 0.0, 0),
        (1, 0.5, 0),
        (1, 1.0, 0),
        (2, 0.5, 1),
        (5, 0.5, 2),
        (100, 0.99, 99),
        (99, 0.99, 98),
        (1000, 0.9, 900),
    ],
)
def test_where_it_stands(count: int, share: float, place: int) -> None:
    assert percentile([10.0 + i for i in range(count)], share) == 10.0 + place
