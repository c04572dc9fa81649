"""Models that reports are made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import lower
from tests.models.quantized import quantize
from tests.models.small import Attention


class Encoder(nn.Module):
    """A sentence encoder in small: i64 [1, n <= 40] and bool [1, n] to f32 [1, 16]; one linear stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(50, 16), Attention()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.layer(self.table(ids), mask)
        kept = mask[..., None].float()
        return (x * kept).sum(1) / kept.sum(1).clamp(min=1e-9)


@pytest.fixture(scope="session")
def encoder() -> LoweredModule:
    """Of any length up to 40."""
    torch.manual_seed(0)
    inputs = torch.randint(0, 50, (1, 12)), torch.arange(12)[None] < 9
    n = torch.export.Dim("n", min=2, max=40)
    dims = ({1: n}, {1: n})
    return lower(quantize(Encoder(), inputs, dynamic_shapes=dims), *inputs, dynamic_shapes=dims)


@pytest.fixture(scope="session")
def saved(encoder: LoweredModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder's file."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    lower86.save(encoder, path)
    return path
