"""The table, JSON and picture of a comparison."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from lower86 import Comparison, Lower86Error
from lower86.report.comparison import Distance, Row

COMPARISON = Comparison(
    (
        Row(
            1, "relu_q", "relu", "a.block", "model.py:3: relu(x)", "uint8",
            Distance(20.0, 0.5), Distance(21.26, 0.4), 0.0312, Distance(50.0, 0.1, 1, 0), Distance(math.inf, 0, 0, 0),
        ),
        Row(0, "conv", "conv2d", "a.long.name." * 5, "", "float32", Distance(-math.inf, math.inf), kernel="relu_q"),
        Row(2, "gone", "mul", "", "", "float32"),
    )
)  # fmt: skip


def test_table() -> None:
    head, empty, _, first, second, third = str(COMPARISON).splitlines()
    assert (head.split(";")[0], empty) == ("3 values, worst first", "")
    assert "1 of them in the compiled program's memory" in head
    figures = ["#1", "20.0", "21.3", "0.5", "3.12%", "50.0", "equal", "0.1", "0", "0", "uint8", "relu", "a.block"]
    assert first.split()[: len(figures)] == figures
    assert "in the kernel of #1" in second
    assert "…" in second
    assert "not in the program" in third


def test_order_and_worst() -> None:
    assert [row.number for row in COMPARISON.in_order()] == [0, 1, 2]
    assert [row.worst for row in COMPARISON.rows] == [21.26, math.inf, math.inf]


def test_json() -> None:
    first, second, _ = json.loads(COMPARISON.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert first["compiled"] == {"sqnr": 50.0, "most": 0.1, "one": 1, "more": 0}
    assert (first["compiled_here"]["sqnr"], second["quantization"]["sqnr"]) == ("inf", "-inf")
    assert (second["kernel"], second["compiled"]) == ("relu_q", None)


def test_json_and_back() -> None:
    assert Comparison.from_json(COMPARISON.to_json()) == COMPARISON
    assert Comparison.from_json("[]") == Comparison(())
    unknown = dataclasses.replace(COMPARISON.rows[0], quantization=Distance(math.nan, 0.0))
    (row,) = Comparison.from_json(Comparison((unknown,)).to_json()).rows
    assert row.quantization is not None
    assert math.isnan(row.quantization.sqnr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node": 3}, "row 0, node is a int, not str"),
        ({"number": True}, "row 0, number is a bool, not int"),
        ({"more": 1}, "row 0 is not an object of number, node"),
        ({"quantization": {"sqnr": 1.0}}, "row 0, quantization is not an object of sqnr"),
        ({"compiled": {"sqnr": "high", "most": 0, "one": None, "more": None}}, "holds 'high' in place of a number"),
        ({"compiled": {"sqnr": 1, "most": 0, "one": 0.5, "more": None}}, "row 0, compiled, one is a float"),
        ({"saturation": [1]}, "saturation holds"),
    ],
)
def test_what_is_no_comparison(change: dict[str, Any], message: str) -> None:
    (row, *_) = json.loads(COMPARISON.to_json())
    with pytest.raises(Lower86Error, match=message):
        Comparison.from_json(json.dumps([row | change]))


def test_texts_that_are_none() -> None:
    for text in ("", "{}", "[1]", "[" * 100_000, "[NaN]", '"a"'):
        with pytest.raises(Lower86Error, match="the text is no comparison"):
            Comparison.from_json(text)


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_picture(ending: str, start: bytes, tmp_path: Path) -> None:
    COMPARISON.plot(tmp_path / f"picture.{ending}")
    assert (tmp_path / f"picture.{ending}").read_bytes().startswith(start)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Lower86Error, match=r"lower86\[plot\]"):
        COMPARISON.plot(tmp_path / "picture.png")
