"""`lower86 inspect`: everything a user asks of a file, without running it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lower86
from lower86.cli.main import main
from tests.cli.test_main import run


def test_what_it_says(model: Path) -> None:
    done = run("inspect", str(model), "--operators")
    assert (done.returncode, done.stderr) == (0, "")
    said = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    lines = done.stdout.splitlines()
    (x,) = [line for line in lines if "x: f32" in line]
    assert " 0 … 16" in x
    assert any("factor: 0.5" in line for line in lines)
    assert "which matches" in said["file"]
    assert "torch" in said["written by"]
    assert "1 of 1 quantized operator, 100.0%" in said["int8"]
    assert "contraction u8s8" in said["kernels"]
    assert f"this CPU: {lower86.Target.host().level}" in said["needs"]
    assert "operator" in said, "the table of explain"


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"]["bytes"] == model.stat().st_size
    assert found["file"]["sha256"] in model.read_bytes().decode("latin1")
    (dim,) = found["dims"]
    assert found["dims"][dim] == [0, 16]
    assert found["inputs"][0] == {"name": "x", "dtype": "f32", "shape": [dim, 8]}
    assert {"name": "mask", "literal": None} in found["inputs"]
    assert (found["quantized"], found["int8"], found["int8_fraction"]) == (1, 1, 1)
    assert found["tensor_bytes"]["i8"] == 64
    assert found["needs"][0] == "avx2"


def test_a_damaged_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    np.savez(tmp_path / "other.npz", a=np.zeros(300))
    for name, message in (("bad.safetensors", "hash does not match"), ("other.npz", "it is a zip archive")):
        assert main(["inspect", str(tmp_path / name), "--json"]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err
