"""`lower86 lower`: what PT2E has quantized becomes a file that runs without PyTorch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import lower86
from lower86.cli.main import main
from lower86.sources.model import load_model
from tests.artifact.round_trip import same_bits
from tests.cli.test_main import run


def test_a_quantized_program(nets: str, quantized: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    done = run("lower", str(quantized), "-o", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    int8, wrote = done.stdout.splitlines()
    assert int8 == "int8: 2 of 2 quantized operators, 100.0% of their arithmetic"
    assert wrote.startswith(f"wrote {out}, ")
    assert os.listdir(tmp_path) == ["out.safetensors"]
    source = load_model(str(quantized))
    assert source.example is not None
    lowered = lower86.lower_pt2e_quantized_to_x86(source.graph, source.example.args)
    x = np.load("x.npz")["x"][:5]
    import torch

    same_bits(lower86.load(out)(x), lowered(torch.from_numpy(x)))


def test_a_function(nets: str, quantized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (Path.cwd() / "quantized_by_code.py").write_text(
        f"import torch\nfrom torch.export import load\n\ndef make():\n    return load({str(quantized)!r})\n"
        "def fixed():\n    return load('quantized.pt2').module(check_guards=False), (torch.zeros(2, 8),)\n"
        "def alone():\n    return load('quantized.pt2').module(check_guards=False)\n"
    )
    for name in ("make", "fixed"):
        out = tmp_path / f"{name}.safetensors"
        assert main(["lower", f"quantized_by_code:{name}", "-o", str(out), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["bytes"], found["int8_fraction"], found["notes"]) == (out.stat().st_size, 1.0, [])
        assert lower86.load(out)(np.zeros((5, 8), np.float32)).shape == (5, 4), "what varies in a graph stays so"
    assert main(["lower", "quantized_by_code:alone", "-o", "a.safetensors"]) == 1
    assert "comes without example inputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{m}:net", "-o", "a.safetensors"], 1, "is a float model (lower); to do: lower86 quantize"),
        (["{m}:net", "-o", "a.pt2"], 2, "does not end in .safetensors"),
        (["quantized.pt2"], 2, "Missing option '--output'"),
        (["x.npz", "-o", "a.safetensors"], 1, "x.npz is no exported program"),
        (["missing.pt2", "-o", "a.safetensors"], 1, "missing.pt2 cannot be read: No such file"),
        (["quantized.pt2", "-o", "no/a.safetensors"], 1, "cannot be written: No such file"),
        (["quantized.pt2", "-o", "a.safetensors", "--dynamic", "y:0=n"], 1, "there is no input 'y'"),
    ],
)
def test_mistakes_are_a_line(
    nets: str, quantized: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(["lower", *(one.format(m=nets) for one in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not os.path.exists("a.safetensors")
