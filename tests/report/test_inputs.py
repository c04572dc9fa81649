"""Made-up inputs are such as the program takes: sizes within their ranges, indices within their tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.report.inputs import made_up_inputs

from ..models.checks import lower_anyhow


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 5)

    def forward(self, tokens: Tensor, mask: Tensor, x: Tensor) -> Tensor:
        return torch.where(mask[..., None], self.table(tokens) + x, 0)


def program(folder: Path, low: int, high: int | None) -> lower86.artifact.LoadedProgram:
    n = torch.export.Dim("n", min=low, max=high)
    ones = torch.ones(2, low + 1)
    given = ones.long(), ones.bool(), torch.ones(2, low + 1, 5)
    lowered = lower_anyhow(Mixed(), *given, dynamic_shapes=({1: n}, {1: n}, {1: n}))
    lower86.save(lowered, folder / "m.safetensors")
    return lower86.load(folder / "m.safetensors")


@pytest.mark.parametrize(("low", "high", "size"), [(2, None, 128), (2, 9, 9), (300, 900, 300)])
def test_they_run(tmp_path: Path, low: int, high: int | None, size: int) -> None:
    loaded = program(tmp_path, low, high)
    inputs = made_up_inputs(loaded.program, loaded.interface)
    assert {name: (str(a.dtype), a.shape) for name, a in inputs.items()} == {
        "tokens": ("int64", (2, size)), "mask": ("bool", (2, size)), "x": ("float32", (2, size, 5)),
    }  # fmt: skip
    (result,) = loaded.run(inputs).values()
    assert np.isfinite(result).all()
    assert set(inputs["tokens"].flat) == set(range(7))
    again = made_up_inputs(loaded.program, loaded.interface, {"x": (2, size, 5)})
    assert all((again[name] == array).all() for name, array in inputs.items())


def test_shapes(tmp_path: Path) -> None:
    """One says the others': sizes that vary are one dim."""
    loaded = program(tmp_path, 2, 9)
    for name, shape in (("tokens", (2, 5)), ("x", (2, 5, 5))):
        assert made_up_inputs(loaded.program, loaded.interface, {name: shape})["x"].shape == (2, 5, 5)
    for wrong, message in (
        ({"tokens": (2, 10)}, r"tokens.shape\[1\] is 10, outside its range 0 … 9"), ({"m": (3,)}, "no input 'm'"),
        ({"tokens": (3, 5)}, r"tokens cannot have the shape \[3, 5\], the program takes \[2, n\]"),
        ({"tokens": (2, 5), "x": (2, 6, 5)}, r"x cannot have the shape \[2, 6, 5\]"),
        ({"tokens": (2,)}, "tokens cannot have"), ({"tokens": ()}, "tokens cannot have"),
        ({"tokens": (2, 5, 1)}, "tokens cannot have"),
    ):  # fmt: skip
        with pytest.raises(lower86.InputError, match=message):
            made_up_inputs(loaded.program, loaded.interface, wrong)
