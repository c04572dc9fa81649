"""The wheel: what is in it, and that it alone runs a saved model, by its own command, where there is no PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import lower86
from tests.bare import ROOT, environment
from tests.models.checks import lower
from tests.models.quantized import quantize

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
USE = """
import sys, numpy, lower86
program = lower86.load("model.safetensors")
numpy.save("out.npy", program(numpy.load("x.npy")))
print(lower86.__file__)
print([name for name in sys.modules if name.split(".")[0] in ("torch", "torchao")])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that what an earlier build left in the checkout is not in it, and nothing is left there."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "tests", "benchmarks", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = out.iterdir()
    return found


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        about = archive.read(metadata).decode()
    package = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "lower86").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"lower86/py.typed", "lower86/report/page/templates/page.html.j2"} <= package
    assert {name for name in names if ".dist-info/" not in name} == package
    assert wheel.name.endswith("-py3-none-any.whl"), "no machine code in it"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "Requires-Dist: llvmlite" in about
    assert [
        line for line in about.splitlines() if line.startswith("Requires-Dist: torch") and "extra" not in line
    ] == []


def test_it_runs_a_saved_model_where_there_is_nothing_else(wheel: Path, tmp_path: Path) -> None:
    x = torch.randn(3, 8)
    lowered = lower(quantize(torch.nn.Linear(8, 4), (x,)), x)
    lower86.save(lowered, tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", x.numpy())

    bare = environment(tmp_path / "bare")
    install = ["--python", str(bare.python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *install]
    subprocess.run(pip, check=True, capture_output=True)
    own = {**os.environ, "LOWER86_CACHE_DIR": str(tmp_path / "cache")}
    own.pop("PYTHONPATH", None)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place, torch_modules = run(str(bare.python), "-W", "error", "-c", USE).splitlines()
    assert Path(place) == bare.site / "lower86" / "__init__.py"
    assert torch_modules == "[]"
    assert np.load(tmp_path / "out.npy").tobytes() == lowered(x).numpy().tobytes()

    command = str(bare.python.with_name("lower86"))
    said = run(command, "--help")
    assert all(name in said for name in ("inspect", "run", "bench", "report", "cpu"))
    described = json.loads(run(command, "inspect", "model.safetensors", "--json"))
    assert described["inputs"][0]["shape"] == [3, 8]
