"""The roof: a slope up to the ridge, flat from there on; the picture has both figures."""

from __future__ import annotations

from lower86.report.page.drawing import figure
from lower86.report.page.roof import Roof, draw_roof


def test_reach() -> None:
    roof = Roof(1e12, 5e10)
    assert roof.ridge == 20
    assert [roof.reach(x) for x in (1, 20, 40)] == [5e10, 1e12, 1e12]


def test_picture() -> None:
    text = figure("roof", (4, 3), 8, lambda drawn: draw_roof(drawn.subplots(), Roof(1e12, 5e10), [(3.0, 4e10)]), "Roof")
    assert "1000 GMAC/s int8" in text
    assert "memory, 50 GB/s" in text
