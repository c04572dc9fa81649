"""What is measured of the machine is plausible, and more threads do no less."""

from __future__ import annotations

import pytest

from lower86.report.peak import measured_bandwidth, measured_peak


@pytest.mark.parametrize("threads", [1, 2])
def test_plausible_numbers(threads: int) -> None:
    assert 1e10 < measured_peak(threads, seconds=0.0) < 1e14
    assert 5e8 < measured_bandwidth(threads, seconds=0.0) < 1e12
