"""Latencies are ratios within a run, and each layer's part of the time goes to the layer."""

from __future__ import annotations

import torch
from torch import nn

from lower86.frontend import torchao
from lower86.quantization.calibration import Call
from lower86.quantization.quantize import accept, settled
from lower86.quantization.recipe import recipe_of
from lower86.tuning.latency import _is_certain, ratio_of, saved_seconds
from lower86.tuning.layers import layers_of
from lower86.tuning.variant import floated
from tests.models.checks import lower_anyhow


def test_int8_saves_most_where_most_is_multiplied() -> None:
    model = nn.Sequential(nn.Linear(512, 512), nn.Sigmoid(), nn.Linear(512, 2048), nn.Tanh(), nn.Linear(2048, 8)).eval()
    x = torch.randn(128, 512)
    prepared, _ = settled(accept(model, [x], None, None, 1, None), recipe_of("fast"), (), None, False, 0)
    layers = layers_of(prepared)
    whole, floating = (lower_anyhow(torchao.convert(floated(prepared, some)), x) for some in ((), layers))
    call = Call((x,), {})
    saved = saved_seconds(whole, floating, layers, call)
    assert max(saved, key=lambda name: saved[name]) == "2"
    assert saved["2"] > 1.5 * max(saved["0"], saved["4"])
    assert ratio_of(floating, whole, call) > 1.2
    assert 0.7 < ratio_of(whole, whole, call) < 1.4


def test_a_ratio_is_certain_when_its_turns_agree() -> None:
    assert _is_certain([1.0, 1.001, 1.002] * 4, 0.6)
    assert not _is_certain([1.0, 1.001, 1.002] * 4, 0.1)
    assert not _is_certain([1.0, 1.5, 2.0] * 4, 0.6)
    assert _is_certain([1.0, 1.5, 2.0] * 4, 60.0)
