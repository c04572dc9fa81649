"""`lower86 report`: a page or JSON of a file, on inputs made up or given; what cannot be is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lower86.cli.main import main
from tests.cli.test_main import run


def test_a_page(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = run("report", str(model), "-o", str(out), "--seconds", "0.01")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {out}, ")
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "<h1>model</h1>" in text


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "x", "more_a", "more_b", "rest_0", "rest_1", "bias"
    given = [f"{name}={model.parent / name}.npy" for name in names]
    arguments = [part for one in given for part in ("-i", one)]
    for inputs, timed in ((arguments, "the inputs given"), ([], "random inputs")):
        assert main(["report", str(model), "--json", "--seconds", "0.01", "--threads", "1", *inputs]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["timed_on"].startswith(timed)
        assert found["timed_on"].endswith(" = 4" if inputs else " = 16")
        assert found["file_bytes"] == model.stat().st_size
        assert (found["quantized"], found["int8_share"], found["machine"]["threads"]) == (1, 1.0, 1)
        assert {"name": "factor", "dtype": "", "shape": ["0.5"], "ranges": []} in found["inputs"]
        assert "contraction u8s8" in [step["kind"] for step in found["steps"]]


def test_both_are_of_one_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(model), "-o", str(out), "--json", "--seconds", "0.01"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{found['seconds'] * 1e3:.3f} ms a call" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "{tmp}/no/a.html", "--comparison", "none"], 1, "cannot be written: No such file"),
        ([], 2, "where to? -o report.html, or --json"),
        (["-o", "{tmp}/no/a.html", "--seconds", "0.01"], 1, "cannot be written: No such file"),
        (["--json", "-i", "y={x}"], 1, "there is no input 'y'"),
        (["--json", "-i", "x={x}", "-i", "x={x}"], 1, "an input is given twice"),
        (["--json", "-i", "x={tmp}/none.npy"], 1, "cannot be read as an array"),
        (["--json", "--seconds", "0"], 2, "Invalid value for '--seconds'"),
    ],
)
def test_what_cannot_be(
    model: Path, tmp_path: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 8), np.float32))
    filled = [one.format(tmp=tmp_path, x=tmp_path / "x.npy") for one in arguments]
    assert main(["report", str(model), *filled]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
