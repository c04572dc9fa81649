"""Models of Python's source trained for real: quantized and lowered, they guess the next character as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import lower86
from tests.models.characters import Recurrent, Transformer, bits, trained, windows
from tests.models.checks import lower


def quantized(model: nn.Module) -> GraphModule:
    """The model in int8 by the default recipe, for any number of windows."""
    found = windows(64, held_out=False)[:, :-1]
    batch = torch.export.Dim("batch", max=4096)
    return lower86.quantize(model, found.split(16), dynamic_shapes=({0: batch},), progress=False)


@pytest.mark.parametrize("kind", [Transformer, Recurrent])
def test_the_bits_per_character_of_a_trained_model(kind: type[nn.Module], request: pytest.FixtureRequest) -> None:
    cache = request.config.cache
    model = trained(kind, Path(cache.mkdir("lower86")) if cache is not None else Path())
    lowered = lower(quantized(model), windows(64, held_out=False)[:, :-1])
    explanation = lower86.explain(lowered)
    assert (explanation.int8_fraction, explanation.foreign) == (1, ())
    found = windows(256, held_out=True)
    wanted = bits(model, found)
    assert wanted < 3.2
    assert bits(lowered, found) == pytest.approx(wanted, rel=0.01)
