"""Fresh processes that load a saved model: what they find, and what is said where one fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lower86
from lower86.artifact.start import Start, Starts, measured_starts
from lower86.errors import Lower86Error
from tests.models.checks import lower
from tests.models.quantized import quantize


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(32, 64), nn.ReLU()), torch.randn(4, 32)
    path = tmp_path_factory.mktemp("start") / "model.safetensors"
    lower86.save(lower(quantize(model, (x,)), x), path)
    return path


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    return {"input": np.ones((4, 32), np.float32)}


def test_the_second_process_finds_the_code(
    saved: Path, inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it runs, beside whatever files."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this')\n")
    monkeypatch.chdir(tmp_path)
    found = measured_starts(saved, inputs, 1)
    assert found.warm.load < found.cold.load
    assert found.warm.model_memory < found.cold.model_memory  # LLVM among it
    for one in (found.cold, found.warm):
        assert min(one.python, one.imports, one.load, one.first) > 0
        assert one.imports > 0.01  # NumPy's alone
        assert one.before + one.model_memory == max(one.peak, one.before)
        assert one.first_inference == one.load + one.first


def test_memory_is_the_models() -> None:
    one = Start(0.1, 0.2, 0.3, 0.004, peak=50_000_000, before=35_000_000)
    text = str(Starts(one, one))
    assert "15.0 MB" in text
    assert "0.304 s" in text
    assert Starts(one, one).to_dict()["cold"]["model_memory"] == 15_000_000


def test_a_process_that_fails_says_why(saved: Path, inputs: dict[str, Any]) -> None:
    assert lower86.load(saved).inputs[0].name in inputs
    with pytest.raises(Lower86Error, match="input is missing"):
        measured_starts(saved, {}, 1)
