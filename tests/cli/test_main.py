"""The command line as its users see it: exit codes, one line for an error, a traceback on demand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lower86
from lower86.cli.main import COMMANDS, main
from lower86.cli.text import one_line, printable


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "lower86", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"  {name}" in text for name in COMMANDS)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert "Usage: lower86" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["run"], "Missing argument"),
        (["run", "a.safetensors", "--inputs", "x"], "No such option"),
        (["run", "a.safetensors", "--input", "x"], "'x' is not NAME=FILE.npy"),
        (["run", "a.safetensors", "--input", "x="], "'x=' is not NAME=FILE.npy"),
        (["run", "a.safetensors", "--threads", "many"], "Invalid value for '--threads'"),
        (["inspect", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("lower86: error: ")
    assert message in line


def test_an_error_is_one_line(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path / "missing.safetensors"))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("lower86: error: ")
    assert "missing.safetensors cannot be read: No such file" in line
    assert "to do:" in line


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_traceback_on_demand(tmp_path: Path, place: int) -> None:
    arguments = ["inspect", str(tmp_path / "missing.safetensors")]
    arguments.insert(place, "--debug")
    done = run(*arguments)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ArtifactError" in done.stderr
    with pytest.raises(lower86.ArtifactError):
        main(arguments)


def test_the_parts_of_an_error_in_a_line() -> None:
    error = lower86.InputError("what\nis wrong", where="here", fix="do this")
    assert one_line(error) == "what is wrong (here); to do: do this"
    assert one_line(lower86.Lower86Error("alone")) == "alone"
    assert one_line(lower86.Lower86Error("a\x1b[2Jb\tc")) == r"a\x1b[2Jb\tc"
    assert printable("x: …\n∞") == "x: …\n∞"


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    command = f"{sys.executable} -m lower86 --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")
