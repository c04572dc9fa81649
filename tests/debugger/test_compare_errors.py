"""What cannot be compared is refused, with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lower86
from lower86 import X86Quantizer
from tests.models.checks import lower
from tests.models.quantized import quantize


def made() -> tuple[nn.Module, Any, Any, torch.Tensor]:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval(), torch.randn(3, 8)
    quantized = quantize(model, (x,), quantizer=X86Quantizer())
    return model, quantized, lower(quantized, x), x


def test_what_does_not_belong_together() -> None:
    model, quantized, lowered, x = made()
    other = made()
    with pytest.raises(lower86.Lower86Error, match="was not made from this quantized one"):
        lower86.compare(model, other[1], lowered, (x,))
    with pytest.raises(lower86.Lower86Error, match="quantized is a LoweredModule"):
        lower86.compare(model, lowered, lowered, (x,))
    with pytest.raises(lower86.Lower86Error, match="not a torch"):
        lower86.compare(torch.relu, quantized, lowered, (x,))  # type: ignore[arg-type]  # on purpose
    # A model of the same operators of other sizes has nothing to say about these values.
    foreign = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 6)).eval()
    rows = lower86.compare(foreign, quantized, lowered, (x,)).in_order()
    assert [row.quantization is None for row in rows] == [False, *[True] * (len(rows) - 1)]


def test_inputs_that_do_not_fit() -> None:
    model, quantized, lowered, x = made()
    for wrong, message in (((x[:2],), "shape"), ((x.double(),), "dtype"), ((x, x), "positional arguments")):
        with pytest.raises(lower86.InputError, match=message):
            lower86.compare(model, quantized, lowered, wrong)
    with pytest.raises(lower86.Lower86Error, match="not a tuple"):
        lower86.compare(model, quantized, lowered, x)
    narrow = torch.export.export(nn.Linear(5, 8), (torch.randn(3, 5),), strict=True).module()
    with pytest.raises(lower86.InputError, match="the float model cannot run"):
        lower86.compare(narrow, quantized, lowered, (x,))


def test_models_that_cannot_be_compared(tmp_path: Path) -> None:
    model, quantized, lowered, x = made()
    with pytest.raises(lower86.ExportError, match="training mode"):
        lower86.compare(model.train(), quantized, lowered, (x,))
    lower86.save(lowered, tmp_path / "model.safetensors")
    with pytest.raises(lower86.Lower86Error, match=r"LoadedProgram.*no graph"):
        lower86.compare(model.eval(), quantized, lower86.load(tmp_path / "model.safetensors"), (x,))

    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(lower86.ExportError, match="float model cannot be exported"):
        lower86.compare(Branches().eval(), quantized, lowered, (x,))
