"""What is said of the machine is what the system says."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from lower86.codegen.target import Target
from lower86.report.environment import cpu_name, environment


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    found = environment(3, Target("avx2", "haswell", ""))
    assert found["level"] == "avx2"
    assert found["threads"] == 3
    assert found["cpus"] == sorted(os.sched_getaffinity(0))
    assert found["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["torch"] == version("torch")
    assert found["settings"]["OMP_WAIT_POLICY"] == "passive"
    assert "HOME" not in found["settings"]
    assert set(environment(1, Target("avx2", "haswell", ""), ("numpy", "no-such-thing"))["versions"]) == {"numpy"}


CPUINFO = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: A: CPU\n\nprocessor\t: 1\nmodel name\t: B\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CPUINFO, "A: CPU, family 6, model 143"),
        (CPUINFO.replace("cpu family", "other"), "A: CPU, model 143"),
        ("processor : 0\nmodel name : A\n", "A"),
        ("\n", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_what_a_cpu_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, name: str) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr("lower86.report.environment._CPUINFO", str(tmp_path / "cpuinfo"))
    assert cpu_name() == name


def test_the_record_of_measurements_has_the_same_name() -> None:
    """So that figures of this machine, which the command prints, can be told to be those of the documentation."""
    record = Path(__file__).parents[2] / "benchmarks"
    called = subprocess.run(
        [sys.executable, "-c", "import machine; print(machine.identity()['cpu'])"],
        cwd=record, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert called.stdout.strip() == cpu_name()
    kept = json.loads((record / "results.json").read_text())["identity"]["cpu"]
    assert re.fullmatch(r".+, family \d+, model \d+", kept)
