"""Every command as a user runs it: a process of its own, on real input and on bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lower86
from lower86.cli.main import COMMANDS

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lower86.__file__).parents[1])}
QUICK = ("--seconds", "0.01")

GOOD: dict[str, tuple[str, ...]] = {
    "quantize": ("{nets}:net", "--data", "x.npz", "-o", "{out}/a.safetensors", "--recipe", "fast"),
    "lower": ("{quantized}", "-o", "{out}/b.safetensors"),
    "compare": ("{nets}:net", "{quantized}", "--data", "x.npz"),
    "run": ("{model}", "-o", "{out}/results.npz"),
    "bench": ("{model}", *QUICK, "--warm-up", "0", "--no-start"),
    "profile": ("{model}", *QUICK),
    "inspect": ("{model}",),
    "explain": ("{model}",),
    "cpu": ("--threads", "1"),
    "report": ("{model}", "-o", "{out}/report.html", *QUICK),
    "cache": ("info",),
}
"""Arguments that each command takes; with --json."""

BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "quantize": (("{nets}:net", "--data", "other.npz", "-o", "{out}/a.safetensors"), 1, "no input 'y'"),
    "lower": (("x.npz", "-o", "{out}/b.safetensors"), 1, "is no exported program"),
    "compare": (("{nets}:net", "missing.pt2", "--data", "x.npz"), 1, "cannot be read"),
    "run": (("{model}", "--input", "x=missing.npy"), 1, "cannot be read"),
    "bench": (("x.npz",), 1, "zip archive"),
    "profile": (("{model}", "--shape", "x=5,9"), 1, "cannot have the shape [5, 9]"),
    "inspect": (("missing.safetensors",), 1, "missing.safetensors"),
    "explain": (("x.npy",), 1, "safetensors"),
    "cpu": (("--threads", "none"), 2, "Invalid value for '--threads'"),
    "report": (("{model}", "-o", "{out}/no/report.html"), 1, "cannot be written"),
    "cache": (("clear", "everything"), 2, "everything"),
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lower86", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def names(nets: str, nets_folder: Path, quantized: Path, model: Path, tmp_path: Path) -> dict[str, str]:
    return {"nets": nets, "quantized": str(quantized), "model": str(model), "out": str(tmp_path)}


def test_none_is_left_out() -> None:
    assert set(GOOD) == set(BAD) == set(COMMANDS)


@pytest.mark.parametrize("command", GOOD)
def test_on_real_input(command: str, names: dict[str, str], nets_folder: Path, model: Path, tmp_path: Path) -> None:
    arguments = [one.format(**names) for one in GOOD[command]]
    if command == "run":
        arguments += [f"--input={file.stem}={file}" for file in sorted(model.parent.glob("*.npy"))]
    done = run(nets_folder, command, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)
    written = [one for one in arguments if one.startswith(str(tmp_path))]
    assert all(Path(one).stat().st_size for one in written)


@pytest.mark.parametrize("command", BAD)
def test_on_bad_input(command: str, names: dict[str, str], nets_folder: Path, tmp_path: Path) -> None:
    given, code, message = BAD[command]
    done = run(nets_folder, command, *(one.format(**names) for one in given))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("lower86: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
