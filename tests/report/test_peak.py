"""What is measured of the machine is plausible, and more threads do no less."""

from __future__ import annotations

import pytest

from lower86.report.peak import measured_bandwidth, measured_f32_peak, measured_peak


@pytest.mark.parametrize("threads", [1, 2])
def test_plausible_numbers(threads: int) -> None:
    assert 1e10 < measured_peak(threads, seconds=0.0) < 1e14
    assert 1e9 < measured_f32_peak(threads, seconds=0.0) < 1e13
    assert 5e8 < measured_bandwidth(threads, seconds=0.0) < 1e12


def test_floats_are_slower_than_bytes() -> None:
    """A register holds four bytes for each float; AVX2 multiplies two pairs at once."""
    assert 1.5 < measured_peak(1, seconds=0.2) / measured_f32_peak(1, seconds=0.2) < 8
