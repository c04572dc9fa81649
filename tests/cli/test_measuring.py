"""`lower86 bench`, `profile`, `explain` and `cpu`: what they print is what the library says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lower86
from lower86.cli.main import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def batch(model: Path) -> str:
    """The name of the only dim that varies."""
    (name,) = {name for spec in lower86.load(model).inputs for name in spec.ranges}
    return name


def given(model: Path) -> list[str]:
    return [f"--input={file.stem}={file}" for file in sorted(model.parent.glob("*.npy"))]


def test_bench(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "bench", model, *given(model), "--seconds", 0.1, "--warm-up", 0, "--json"))
    assert found["calls"] >= 10
    assert 0 < found["p50"] <= found["p99"] <= found["worst"]
    assert found["load"] > 0
    assert found["peak_memory"] > 1 << 20
    text = printed(
        capsys, "bench", model, "--size", f"{batch(model)}=3", "--seconds", 0, "--warm-up", 0, "--streams", 2
    )
    assert "20 in" in text
    assert "1 threads a call" in text


def test_profile(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "profile", model, *given(model), "--seconds", 0, "--threads", 1, "--json"))
    assert found["threads"] == 1
    assert len(found["steps"]) == len(lower86.load(model).program.steps)
    assert "of the peak" in printed(capsys, "profile", model, "--seconds", 0)


def test_explain(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = lower86.load(model).explain()
    assert printed(capsys, "explain", model).strip() == str(known).strip()
    found = json.loads(printed(capsys, "explain", model, "--json"))
    assert [one["node"] for one in found["operators"]] == [one.node for one in known.operators]
    assert found["int8_fraction"] == known.int8_fraction


def test_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "cpu", "--threads", 1, "--json"))
    assert found["level"] == lower86.Target.host().level
    assert found["int8_macs_per_second"] > 1e9
    assert found["bytes_per_second"] > 1e8
    assert "GMAC/s" in printed(capsys, "cpu", "--threads", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "nothing=3"], "no input has a dim 'nothing'"),
        (["--size", "batch=3000"], "no inputs could be made up"),
        (["--size", "batch"], "DIM=NUMBER"),
        (["--size", "batch=x"], "a size is a number"),
        (["--input", "x=nothing.npy"], "cannot be read"),
        (["--streams", "0"], "streams"),
    ],
)
def test_mistakes_are_a_line(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    named = [argument.replace("batch", batch(model)) for argument in arguments]
    assert main(["bench", str(model), "--seconds", "0", *named]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
