"""The table, the front, JSON and picture of accuracy control."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from lower86 import AccuracyReport, Lower86Error
from lower86.tuning.report import Configuration, LayerAccount

TRIED = (
    Configuration((), -math.inf, math.inf, False, 1e-3, 1.0),
    Configuration(("b",), 0.97, 0.005, True, 1.2e-3, 1.2),
    Configuration(("a",), 0.96, 0.015, False, 1.3e-3, 1.3),
    Configuration(("a", "b", "c"), 0.975, 0.0, True, 3e-3, 3.0),
)
LAYERS = (
    LayerAccount("a", "linear", False, 30.0, 0.001, 2e-4),
    LayerAccount("b", "convolution", True, 5.0, 0.4, 1e-4),
    LayerAccount("c", "linear", False, math.inf, None, None),
)


def _report(chosen: int = 1, **options: Any) -> AccuracyReport:
    nothing: Any = None
    given = {"exact": 0.975, "max_drop": 0.01, "drop_type": "absolute", "layers": LAYERS, "configurations": TRIED}
    given |= {"stopped": False, "float_dtype": "float32", "seconds": 60.0, "chosen": TRIED[chosen], **options}
    return AccuracyReport(model=nothing, lowered=nothing, **given)


def test_the_front_has_what_nothing_else_beats() -> None:
    assert _report().pareto == (TRIED[0], TRIED[1], TRIED[3])


def test_table() -> None:
    head, _, _, *rows = str(_report()).splitlines()
    assert "met with 1 of 3 layers in float, the fastest of 4 configurations tried. The float model's metric" in head
    assert [row.split()[0] for row in rows[:4]] == ["front", "chosen", "1.3", "front"]
    assert rows[1].split() == ["chosen", "1.2", "1.200", "0.97", "+0.005", "met", "1:", "b"]
    assert rows[0].endswith("0: all in int8")
    assert rows[3].endswith("3: all")
    assert [row.split()[0] for row in rows[5:]] == ["layer", "b", "a", "c"]
    assert rows[6].split() == ["b", "convolution", "float", "5.0", "-0.4", "100.0"]


def test_what_is_not_met_says_so() -> None:
    report = _report(2, max_drop=0.001)
    assert not report.met
    assert "cannot be met" in report.sentence
    assert "budget" in _report(stopped=True).sentence


def test_json() -> None:
    found = json.loads(_report().to_json(), parse_constant=lambda name: pytest.fail(name))
    assert found["configurations"][0]["metric"] == "-inf"
    assert found["chosen"]["floats"] == ["b"]
    assert (found["met"], len(found["pareto"]), found["layers"][2]["noise"]) == (True, 3, "inf")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_picture(ending: str, start: bytes, tmp_path: Path) -> None:
    _report().plot(tmp_path / f"picture.{ending}")
    assert (tmp_path / f"picture.{ending}").read_bytes().startswith(start)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Lower86Error, match=r"lower86\[plot\]"):
        _report().plot(tmp_path / "picture.png")
