"""One saved model for all commands."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import lower86
from lower86.cli.main import main
from lower86.lowered import LoweredModule
from tests.cli.made import made
from tests.end_to_end.test_signatures import Inputs
from tests.models.checks import lower
from tests.models.qdq import grid


@pytest.fixture(scope="session")
def lowered() -> LoweredModule:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", max=16)
    row = {0: batch}
    shapes = {"x": row, "more": {"a": row, "b": None}, "rest": [row, row], "mask": None, "factor": None, "bias": None}
    given = grid(3, 8), {"a": grid(3, 8), "b": grid(8)}, [grid(3, 8), grid(3, 1)], None, 0.5
    return lower(Inputs(), *given, example_kwargs={"bias": grid(8)}, dynamic_shapes=shapes)


@pytest.fixture(scope="session")
def model(lowered: LoweredModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, with inputs beside it, named as they are."""
    folder = tmp_path_factory.mktemp("model")
    lower86.save(lowered, folder / "model.safetensors")
    for name, shape in (("x", (4, 8)), ("more_a", (4, 8)), ("more_b", (8,)), ("rest_0", (4, 8)), ("rest_1", (4, 1)),
                        ("bias", (8,))):  # fmt: skip
        np.save(folder / f"{name}.npy", grid(*shape).numpy())
    return folder / "model.safetensors"


class Counter(torch.nn.Module):
    """Counts its calls."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x + self.seen


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose calls leave something for the next one."""
    path = tmp_path_factory.mktemp("counter") / "counter.safetensors"
    lower86.save(lower(Counter(), torch.zeros(4), on_fallback="ignore"), path)
    return path


NETS = "nets_of_the_command_line"


@pytest.fixture(scope="session")
def nets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module NETS and data."""
    folder = tmp_path_factory.mktemp("nets")
    made(folder, NETS)
    return folder


@pytest.fixture
def nets(nets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module's name; its folder is the current one."""
    monkeypatch.chdir(nets_folder)
    monkeypatch.syspath_prepend(nets_folder)
    return NETS


@pytest.fixture(scope="session")
def quantized(nets_folder: Path) -> Path:
    """A quantized program of the module's net whose rows vary."""
    before = os.getcwd()
    os.chdir(nets_folder)
    try:
        arguments = ["quantize", f"{NETS}:wide", "--data", "x.npz", "-o", "quantized.pt2", "--recipe", "fast", "--json"]
        assert main(arguments) == 0
    finally:
        os.chdir(before)
    return nets_folder / "quantized.pt2"
