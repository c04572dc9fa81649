"""`lower86 quantize`: from a model and data to a file that runs, or that PyTorch loads; what is wrong is a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lower86
from lower86.cli.main import main
from lower86.sources.model import load_model
from tests.cli.test_main import run
from tests.sources.folders import text_model


def test_a_function_and_arrays(nets: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    done = run("quantize", f"{nets}:net", "--data", "x.npz", "-o", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, int8, wrote = done.stdout.splitlines()
    assert first.startswith("8 inputs calibrated, 2 judged: ")
    assert int8 == "int8: 2 of 2 quantized operators, 100.0% of their arithmetic"
    assert wrote.startswith(f"wrote {out}, {out.stat().st_size} bytes, in ")
    assert os.listdir(tmp_path) == ["out.safetensors"]
    x = np.load("x.npz")["x"][:2]
    expected = load_model(f"{nets}:net").model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(lower86.load(out)(x), expected, atol=0.05)


def test_a_program_for_pytorch(nets: str, quantized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = load_model(str(quantized))
    assert source.is_quantized
    assert source.inputs[0].rows_vary
    assert main(["quantize", str(quantized), "--data", "x.npz", "-o", "no.pt2"]) == 1
    assert "the model is quantized already" in capsys.readouterr().err
    assert not os.path.exists("no.pt2")


def test_options(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    arguments = ["quantize", f"{nets}:net", "--data", f"{nets}:inputs", "-o", str(out), "--json"]
    options = ["--recipe", "fast", "--samples", "5", "--ignored", "head", "--dynamic", "x:0=rows:64"]
    assert main([*arguments, *options]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert (found["quantization"]["calibrated"], found["quantization"]["judged"]) == (4, 1)
    assert (found["bytes"], found["notes"]) == (out.stat().st_size, [])
    program = lower86.load(out)
    assert len(program.explain().operators) == 1
    assert program(np.zeros((7, 8), np.float32)).shape == (7, 4)
    with pytest.raises(lower86.InputError):
        program(np.zeros((65, 8), np.float32))


def test_a_model_without_an_example(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    arguments = ["quantize", f"{nets}:alone", "--data", "x.npy", "-o", str(out), "--recipe", "fast", "--json"]
    assert main([*arguments, "--batch", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["quantization"]["calibrated"] == 4
    assert lower86.load(out)(np.zeros((4, 8), np.float32)).shape == (4, 4)


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text("the cat sat\na dog ran on\n")
    model, out = text_model(tmp_path / "bert"), tmp_path / "bert.safetensors"
    data = ["--data", str(tmp_path / "lines.txt")]
    assert main(["quantize", str(model), *data, "-o", str(out), "--recipe", "fast", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["int8_fraction"], found["notes"]) == (1.0, [])
    ids = np.array([[2, 4, 5, 3], [2, 8, 3, 0]])
    program = lower86.load(tmp_path / "bert.safetensors")
    logits = program(ids, (ids > 0).astype(np.int64))["logits"]
    expected = load_model(str(tmp_path / "bert")).model(torch.from_numpy(ids), torch.from_numpy(ids > 0).long())
    np.testing.assert_allclose(logits, expected["logits"].detach().numpy(), atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{m}:net", "--data", "x.npz"], 2, "Missing option '--output'"),
        (["{m}:net", "-o", "a.pt2"], 2, "Missing option '--data'"),
        (["{m}:net", "--data", "x.npz", "-o", "a.onnx"], 2, "'a.onnx' does not end in .safetensors or .pt2"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--mean", "a,b"], 2, "'a,b' are no numbers"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--mean", "nan"], 2, "'nan' are no numbers"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--std", "1,0"], 2, "'1,0' are not all above 0"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--size", "0x5"], 2, "'0x5' is not 224 or 224x320"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--on-fallback", "no"], 2, "'no' is not warn, raise or ignore"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--samples", "0"], 2, "--samples"),
        (["{m}:net", "--data", "x.npz", "-o", "no/a.pt2"], 1, "no/a.pt2 cannot be written: No such file"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--recipe", "balancd"], 1, "did you mean 'balanced'?"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--ignored", "haed"], 1, 'the name "haed" matches nothing'),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--dynamic", "x"], 1, "'x' is not INPUT:AXIS=DIM"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--dynamic", "z:0=n"], 1, "there is no input 'z'"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--dynamic", "x:2=n"], 1, "x has 2 axes, counted from 0"),
        (["{m}:net", "--data", "x.npz", "-o", "a.pt2", "--dynamic", "x:1=n"], 1, "cannot be exported to a graph"),
        (["{m}:net", "--data", "nan.npz", "-o", "a.pt2"], 1, "it holds NaN (calibration, item 2, input x)"),
        (["{m}:net", "--data", "wide.npz", "-o", "a.pt2"], 1, "x has shape [2, 7], the model takes [2, 8]"),
        (["{m}:net", "--data", "other.npz", "-o", "a.pt2"], 1, "there is no input 'y'; the model takes x"),
        (["{m}:net", "--data", "empty.npz", "-o", "a.pt2"], 1, "empty.npz cannot be read"),
        (["{m}:branches", "--data", "x.npz", "-o", "a.pt2"], 1, "cannot be exported to a graph"),
        (["{m}:nothing", "--data", "x.npz", "-o", "a.pt2"], 1, "has no nothing"),
        (["nothing", "--data", "x.npz", "-o", "a.pt2"], 1, "there is no model nothing"),
    ],
)
def test_mistakes_are_a_line(
    nets: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    before = sorted(os.listdir())
    assert main(["quantize", *(one.format(m=nets) for one in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_what_cannot_be_int8_or_saved(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "quantize",
        f"{nets}:rough",
        "--data",
        "x.npz",
        "-o",
        str(tmp_path / "a.safetensors"),
        "--recipe",
        "fast",
    ]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "runs in PyTorch, which a file cannot" in said
    assert main([*arguments, "--on-fallback", "raise"]) == 1
    assert "1 step runs in PyTorch" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_an_interrupt_is_a_line(nets: str) -> None:
    command = [sys.executable, "-m", "lower86", "quantize", f"{nets}:slow", "--data", "x.npz", "-o", "slow.pt2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (130, "lower86: error: interrupted\n")
    assert not os.path.exists("slow.pt2")


def test_what_the_users_code_prints_is_no_result(nets: str, tmp_path: Path) -> None:
    command = ["quantize", f"{nets}:talks", "--data", "x.npz", "-o", str(tmp_path / "out.pt2"), "--recipe", "fast"]
    done = run(*command, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["notes"] == []
    assert sorted(done.stderr.splitlines()) == ["of native code", "of the user's code"]
