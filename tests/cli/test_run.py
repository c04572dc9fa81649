"""`lower86 run`: results are those of the module; what is wrong with an input is said by its name."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import lower86
from lower86.cli.main import main
from lower86.lowered import LoweredModule
from tests.artifact.round_trip import same_bits
from tests.cli.test_main import run

NAMES = ("x", "more_a", "more_b", "rest_0", "rest_1", "bias")


def options(model: Path, **others: Path) -> list[str]:
    files = {name: model.parent / f"{name}.npy" for name in NAMES} | others
    return [part for name, path in files.items() for part in ("--input", f"{name}={path}")]


def expected(lowered: LoweredModule, model: Path) -> torch.Tensor:
    x, a, b, first, second, bias = (torch.from_numpy(np.load(model.parent / f"{name}.npy")) for name in NAMES)
    result: torch.Tensor = lowered(x, {"a": a, "b": b}, [first, second], None, 0.5, bias=bias)
    return result


def test_outputs_are_written(lowered: LoweredModule, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    done = run("run", str(model), *options(model), "--output", str(out), "--threads", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "output: float32 [4, 8], min " in done.stdout
    assert f"wrote {out}" in done.stdout
    assert os.listdir(tmp_path) == ["out.npz"]
    with np.load(out) as arrays:
        assert arrays.files == ["output"]
        same_bits(arrays["output"], expected(lowered, model))


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(model), *options(model), "--json", "--target", "avx2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outputs"] == {"output": {"dtype": "float32", "shape": [4, 8]}}
    assert found["output"] is None
    assert set(found["seconds"]) == {"load", "run"}


def test_what_is_wrong_is_said_by_name(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((4, 9), np.float32))
    np.save(tmp_path / "f64.npy", np.zeros((4, 8)))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps({"a": 1}))
    good = options(model)
    cases = [
        (options(model, x=tmp_path / "wide.npy"), "x has shape [4, 9]"),
        (options(model, x=tmp_path / "f64.npy"), "x has dtype float64, expected float32"),
        (options(model, x=tmp_path / "objects.npy"), "objects.npy cannot be read as an array"),
        (options(model, x=tmp_path / "many.npz"), "many.npz holds several arrays"),
        (options(model, x=tmp_path / "text.npy"), "text.npy cannot be read as an array"),
        (options(model, x=tmp_path / "pickle.npy"), "as an array: it holds objects, as a pickle does"),
        (options(model, x=tmp_path / "missing.npy"), "missing.npy cannot be read as an array: No such file"),
        (options(model, z=model.parent / "x.npy"), "there is no input 'z'"),
        (good[2:], "x is missing"),
        ([*good, *good[:2]], "an input is given twice"),
        ([*good, "--output", str(tmp_path / "no" / "out.npz")], "out.npz cannot be written: No such file"),
        ([*good, "--target", "sse2"], "unknown target 'sse2'"),
    ]
    assert main(["run", str(model), *good, "--threads", "0"]) == 2
    assert "'--threads'" in capsys.readouterr().err
    for arguments, message in cases:
        assert main(["run", str(model), *arguments]) == 1, message
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main(["run", str(model), *good, "--output", str(tmp_path / "out.npy")]) == 2
    assert "does not end in .npz" in capsys.readouterr().err
    np.save(tmp_path / "x.npy", np.load(model.parent / "x.npy").astype(">f4"))
    assert main(["run", str(model), *options(model, x=tmp_path / "x.npy")]) == 0, "of another machine's byte order"


def test_an_output_that_cannot_be_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(file: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert main(["run", str(model), *options(model), "--output", str(tmp_path / "out.npz")]) == 1
    assert "out.npz cannot be written: No space left" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_results_that_are_no_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.end_to_end.test_signatures import Wrapped
    from tests.models.checks import lower_anyhow
    from tests.models.qdq import grid

    lowered = lower_anyhow(Wrapped(lambda y, x, c: {"y": y.sum(), "n": 3, "empty": x[:0]}), grid(3, 8))
    lower86.save(lowered, tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", grid(3, 8).numpy())
    arguments = ["run", str(tmp_path / "model.safetensors"), "-i", f"x={tmp_path / 'x.npy'}"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("y: float32 [] = ")
    assert lines[1:3] == ["n: 3", "empty: float32 [0, 8]"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"]["n"] == {"value": 3}
