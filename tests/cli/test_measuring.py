"""`lower86 bench`, `profile`, `explain` and `cpu`: what they print is what the library says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lower86
from lower86.cli import inputs
from lower86.cli.main import main
from lower86.counted import counted
from lower86.runtime import threads


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def given(model: Path) -> list[str]:
    return [f"--input={file.stem}={file}" for file in sorted(model.parent.glob("*.npy"))]


def test_bench(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "bench", model, *given(model), "--seconds", 0.1, "--warm-up", 0, "--json"))
    assert found["calls"] >= 10
    assert 0 < found["p50"] <= found["p99"] <= found["worst"]
    assert found["load"] > 0
    assert found["inputs"]["rest_1"] == {"dtype": "float32", "shape": [4, 1]}
    assert found["start"]["warm"]["load"] < found["start"]["cold"]["load"]
    assert found["peak_memory"] == found["start"]["warm"]["peak"] > found["model_memory"] > 0
    assert found["environment"]["threads"] == found["threads"]
    assert found["environment"]["level"] == lower86.Target.host().level
    assert "torch" not in found["environment"]["versions"]  # it has no part in this


def test_bench_with_streams(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpus = len(os.sched_getaffinity(0))
    shape, streams = "x=3,8", min(2, cpus)
    options = ["bench", model, "--shape", shape, "--seconds", 0, "--warm-up", 0, "--no-start", "--streams"]
    text = printed(capsys, *options, streams)
    assert f"{10 * streams} in" in text
    assert "\ninputs, made up: x float32 [3, 8], more_a float32 [3, 8], more_b float32 [8], " in text
    assert f"{counted(cpus // streams, 'thread')} a call" in text
    assert "first inference" not in text
    assert "wait for each other" not in text
    assert "wait for each other" in printed(capsys, *options, streams, "--threads", cpus + 1)
    assert json.loads(printed(capsys, *options, streams, "--threads", cpus + 1, "--json"))["crowded"]


def test_streams_of_a_program_with_state_have_one_each(
    model: Path, counter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lower86.artifact import load as module

    loaded: list[Any] = []
    original = module.load
    monkeypatch.setattr(module, "load", lambda *a, **named: loaded.append(original(*a, **named)) or loaded[-1])
    options = ["--seconds", 0, "--warm-up", 0, "--no-start", "--streams", 2, "--threads", 1]
    printed(capsys, "bench", counter, *options)
    assert len(loaded) == 3
    counts = [float(one.named_state()["seen"].item()) for one in loaded]
    assert counts[0] == 0
    assert min(counts[1:]) >= 10
    loaded.clear()
    printed(capsys, "bench", model, *options)
    assert len(loaded) == 1


def test_bench_on_chosen_cpus(model: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    environment = {**os.environ, "PYTHONPATH": str(Path(lower86.__file__).parents[1])}
    code = "import sys; from lower86.cli.main import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "bench", str(model), "--seconds", "0", "--warm-up", "0", "--cpus", str(cpu)]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["environment"]["cpus"] == [cpu]
    assert found["threads"] == 1


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
        (["--shape", "nothing=3"], "there is no input 'nothing'"),
        (["--shape", "x=3000,8"], "no inputs could be made up"),
        (["--shape", "x"], "NAME=8,128"),
        (["--shape", "x=3,x"], "'3,x' is no shape"),
        (["--shape", "x=3,8", "--input", "x=x.npy"], "shapes of their own"),
        (["--input", "x=nothing.npy"], "cannot be read"),
        (["--streams", "0"], "streams"),
        (["--cpus", "a-b"], "is no list of CPUs"),
        (["--pin", "60000"], "cannot run on: 60000"),
    ],
)
def test_mistakes_are_a_line(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["bench", str(model), "--seconds", "0", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "--streams 5000", "--streams 0", "--streams 99999999999999999999", "--threads 100000", "--threads 0",
        "--threads -1", "--seconds -1", "--seconds nan", "--seconds inf", "--seconds 1e300", "--warm-up inf",
        "--warm-up -1", "--streams 200 --threads 100", "--cpus 5000", "--rounds 0", "--rounds 99999999",
        "--iterations -1",
    ],
)  # fmt: skip
def test_absurd_numbers_are_refused_at_once(model: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert main(["bench", str(model), *wrong.split()]) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    option = wrong.split()[0]
    assert option in line or option.removeprefix("--") in line
    for command in ("profile", "report", "run", "cpu"):
        if wrong.startswith("--threads"):
            assert main([command, *([] if command == "cpu" else [str(model)]), *wrong.split()]) == 2
            assert "--threads" in capsys.readouterr().err


def test_bounds_of_options_are_the_packages() -> None:
    benchmark = importlib.import_module("lower86.report.benchmark")  # which the function of that name hides
    assert (inputs.MOST_THREADS, inputs.MOST_STREAMS) == (threads.MOST_THREADS, benchmark.MOST_STREAMS)
