"""The command line as its users see it: exit codes, one line for an error, a traceback on demand."""

from __future__ import annotations

import importlib.metadata
import os
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


def test_the_commands_fit_on_a_screen() -> None:
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "lower86", "--help"]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lower86 {importlib.metadata.version('lower86')}\n"


def test_commands_and_options_are_completed() -> None:
    def completed(*words: str) -> list[str]:
        environment = {**os.environ, "_LOWER86_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("lower86", *words))}
        environment["COMP_CWORD"] = str(len(words))
        command = [sys.executable, "-m", "lower86"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("c") == ["compare", "cpu", "cache"]
    assert completed("quantize", "--s") == ["--samples", "--static", "--std", "--size"]
    assert completed("cache", "") == ["info", "clear"]


def test_the_script_that_completes(tmp_path: Path) -> None:
    (tmp_path / "lower86").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lower86 "$@"\n')
    (tmp_path / "lower86").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    lines = [
        'eval "$(lower86 --show-completion bash)"', "COMP_WORDS=(lower86 qu)", "COMP_CWORD=1",
        "_lower86_completion lower86", 'echo "${COMPREPLY[@]}"',
    ]  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("quantize\n", "")


def test_commands_that_need_no_torch_import_none() -> None:
    script = "import sys; from lower86.cli.main import main; main(['cpu', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)


def test_an_error_that_nobody_thought_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(path: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("lower86.artifact.load.opened", fail)
    assert main(["inspect", "a"]) == 1
    said = "RuntimeError: two lines; to do: --debug shows where, and is worth a bug report"
    assert capsys.readouterr().err == f"lower86: error: {said}\n"
    with pytest.raises(RuntimeError):
        main(["inspect", "a", "--debug"])


def test_without_pytorch(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['torch'] = None; from lower86.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", blocked, "lower", "a.pt2", "-o", str(tmp_path / "a.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "lower86: error: this command takes torch; to do: pip install 'lower86[torch]'\n"


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


def test_output_that_cannot_be_written() -> None:
    command = [sys.executable, "-m", "lower86", "cache", "info"]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "lower86: error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("rest", "code", "error"),
    [("cache info >&-", 0, ""), ("inspect none 2>&-", 1, ""), ("inspect none >&- 2>&-", 1, "")],
)
def test_streams_that_are_closed(rest: str, code: int, error: str) -> None:
    command = ["bash", "-c", f"{sys.executable} -m lower86 {rest}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(path: object) -> None:
        raise MemoryError("Unable to allocate 1.09 PiB")

    monkeypatch.setattr("lower86.artifact.load.opened", fail)
    assert main(["inspect", "a"]) == 1
    assert capsys.readouterr().err == "lower86: error: there is not enough memory: Unable to allocate 1.09 PiB\n"
