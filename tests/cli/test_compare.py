"""`lower86 compare`: where accuracy goes, as a table, and as a file that `lower86 report` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lower86
from lower86.cli.main import main


def test_a_table_and_a_file_for_the_report(
    nets: str, quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, saved = tmp_path / "comparison.json", tmp_path / "model.safetensors"
    arguments = ["compare", f"{nets}:wide", str(quantized), "--data", "x.npz", "-o", str(out), "--batch", "10"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    comparison = lower86.Comparison.from_json(out.read_text())
    assert captured.out == f"{comparison}\nwrote {out}\n"
    rows = {row.operator: row for row in comparison.rows}
    assert {"linear", "relu"} <= set(rows)
    assert all(row.quantization is not None for row in comparison.rows)
    assert all(row.worst > 20 for row in comparison.rows)
    assert main(["lower", str(quantized), "-o", str(saved)]) == 0
    capsys.readouterr()
    assert main(["report", str(saved), "--json", "--comparison", str(out), "--seconds", "0.01"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["node"] for row in found["accuracy"]] == [row.node for row in comparison.rows]
    (tmp_path / "other.json").write_text("[{}]")
    for name, message in (("other.json", "the text is no comparison"), ("no.json", "cannot be read: No such file")):
        assert main(["report", str(saved), "--json", "--comparison", str(tmp_path / name)]) == 1
        assert message in capsys.readouterr().err


def test_json(nets: str, quantized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", f"{nets}:net", str(quantized), "--data", "x.npz", "--json"]
    assert main([*arguments, "--item", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["output"], found["notes"]) == (None, [])
    assert {row["operator"] for row in found["rows"]} >= {"linear", "relu"}
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["rows"] != found["rows"], "another call of the data"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{m}:net", "{m}:net", "--data", "x.npz"], 1, "is no quantized model"),
        (["{m}:net", "quantized.pt2", "--data", "x.npz", "--item", "99"], 1, "the data has 20 calls, counted from 0"),
        (["{m}:net", "quantized.pt2", "--data", "wide.npz"], 1, "x has shape [1, 7], the model takes [any, 8]"),
        (["{m}:net", "quantized.pt2", "--data", "x.npz", "-o", "no/c.json"], 1, "cannot be written"),
        (["{m}:net", "quantized.pt2"], 2, "Missing option '--data'"),
        (["{m}:net", "--data", "x.npz"], 2, "Missing argument"),
    ],
)
def test_mistakes_are_a_line(
    nets: str, quantized: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(["compare", *(one.format(m=nets) for one in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
