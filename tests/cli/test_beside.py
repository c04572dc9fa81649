"""`lower86 bench --peers`, as a user runs it: a float model and data, in a process of its own, and mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lower86

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lower86.__file__).parents[1])}


def bench(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lower86", "bench", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With float.pt2, data.npy of 12 rows, few.npy of another width, and my_models.py."""
    path = tmp_path_factory.mktemp("peers")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 8)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(1, 24),)), path / "float.pt2")
    np.save(path / "data.npy", np.random.default_rng(0).standard_normal((12, 24), np.float32))
    np.save(path / "few.npy", np.zeros((4, 7), np.float32))
    (path / "my_models.py").write_text("def none(): return 3\n")
    return path


def test_a_float_model_beside_others(folder: Path) -> None:
    options = ["--peers", "torchao,pytorch,openvino", "--rounds", 2, "--warm-up", 0, "--threads", 1, "--json"]
    done = bench(folder, "float.pt2", "--data", "data.npy", *options)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert {"lower86", "torchao lowering", "PyTorch fp32"} <= set(rows)
    assert set(rows) | set(found["left_out"]) == {"lower86", "torchao lowering", "PyTorch fp32", "OpenVINO int8"}
    for row in rows.values():
        assert 0 < row["min"] <= row["median"] <= row["p99"]
        assert row["cosine"] > 0.99
    assert rows["lower86"]["ratio"] == 1
    assert rows["PyTorch fp32"]["cosine"] == pytest.approx(1)
    assert found["environment"]["threads"] == 1
    assert "torch" in found["environment"]["versions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["float.pt2", "--peers", "all"], "--peers without --data"),
        (["float.pt2"], "float.pt2 can be measured beside others only"),
        (["my_models:none"], "can be measured beside others only"),
        (["float.pt2", "--data", "data.npy", "--peers", "tvm"], "there is no peer 'tvm'"),
        (["float.pt2", "--data", "few.npy", "--peers", "pytorch"], "has shape [1, 7]"),
        (["float.pt2", "--data", "no.npy", "--peers", "pytorch"], "no.npy cannot be read"),
        (["my_models:none", "--data", "data.npy", "--peers", "pytorch"], "gives a int"),
        (["float.pt2", "--data", "data.npy", "--peers", "pytorch", "--streams", "2"], "--streams with --peers"),
    ],
)
def test_mistakes_are_a_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    from lower86.cli.main import main

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert main(["bench", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_torch(folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from lower86.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "bench", "float.pt2", "--data", "data.npy", "--peers", "all"]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "takes torch" in done.stderr
    assert "pip install" in done.stderr
    assert done.stderr.count("\n") == 1
