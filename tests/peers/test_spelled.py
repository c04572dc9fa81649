"""torchao's quantizer finds in a model from a file what it finds in the model itself."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from lower86.peers.peer import Work
from tests.models.counting import int8_macs, pairs


class Block(nn.Module):
    """Convolutions with a residual, a pool, and linears."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.pool = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.first(x))
        x = nn.functional.relu(self.norm(self.second(x)) + x)
        result: Tensor = self.head(self.pool(x).flatten(1))
        return result


def reloaded(model: nn.Module, x: Tensor) -> GraphModule:
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (x,)), file)
    file.seek(0)
    found: Any = torch.export.load(file).module(check_guards=False)
    assert isinstance(found, GraphModule)
    return found


def test_a_model_from_a_file_is_quantized_as_the_model_is() -> None:
    torch.manual_seed(0)
    model, x = Block().eval(), torch.randn(1, 3, 8, 8)
    whole, loaded = (Work("block", one, [(x,)], [(x,)]).quantized for one in (model, reloaded(model, x)))
    assert sum(int8_macs(whole, x).values()) > 0
    assert sorted(int8_macs(loaded, x).values()) == sorted(int8_macs(whole, x).values())
    assert pairs(loaded) == pairs(whole)
