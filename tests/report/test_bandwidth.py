"""What is measured of memory is no cache's, and more threads are no fewer bytes."""

from __future__ import annotations

import pytest

from lower86.report.bandwidth import measured_bandwidth


@pytest.mark.parametrize("threads", [1, 2])
def test_a_plausible_number(threads: int) -> None:
    assert 5e8 < measured_bandwidth(threads, seconds=0.01) < 1e12
