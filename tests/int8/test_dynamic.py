"""Dynamic quantization as torchao writes it: native, exact, at every magnitude of the input."""

from __future__ import annotations

import pytest
import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import lower86
from lower86 import QuantizationConfig, X86Quantizer
from tests.models.quantized import quantize


@pytest.fixture(scope="module")
def quantized() -> GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(33, 70), nn.GELU(), nn.Linear(70, 5, bias=False)).eval()
    quantizer = xiq.X86InductorQuantizer()
    quantizer.set_global(xiq.get_default_x86_inductor_quantization_config(is_dynamic=True))
    x = torch.randn(2, 4, 33)
    prepared = prepare_pt2e(torch.export.export(model, (x,), strict=True).module(), quantizer)
    prepared(x)
    return convert_pt2e(prepared)


def test_everything_is_int8_and_native(quantized: GraphModule) -> None:
    explanation = lower86.explain(lower86.lower_pt2e_quantized_to_x86(quantized, (torch.randn(2, 4, 33),)))
    assert explanation.int8_fraction == 1.0
    assert explanation.foreign == ()
    assert explanation.regions == 1


@pytest.mark.parametrize("magnitude", [1e-6, 0.01, 1.0, 1e4])
def test_results_are_those_of_the_quantized_model(quantized: GraphModule, magnitude: float) -> None:
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (torch.randn(2, 4, 33),))
    for x in (torch.randn(2, 4, 33), torch.rand(2, 4, 33), -torch.rand(2, 4, 33), torch.zeros(2, 4, 33)):
        with torch.no_grad():
            expected = quantized(x * magnitude)
        scale = expected.abs().max().item() + 1e-30
        torch.testing.assert_close(lowered(x * magnitude), expected, rtol=1e-5, atol=1e-5 * scale)


class Block(nn.Module):
    """What a transformer has around its feed-forward layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(96), nn.Linear(96, 200), nn.Linear(200, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + x.flip(0)
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


@pytest.mark.parametrize(
    ("per_token", "steps"),
    [
        # sum, norm, statistics, integers; linear with gelu; statistics, integers; linear with the residual
        (True, 4),
        # as above, but what is before the statistics of all rows, those, and the integers are a step each
        (False, 8),
    ],
)
def test_row_statistics_are_part_of_what_makes_the_rows(per_token: bool, steps: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, 96)
    quantizer = X86Quantizer().set_global(QuantizationConfig.dynamic(per_token=per_token))
    model = quantize(Block(), (x,), quantizer=quantizer)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, (x,))
    assert len(lowered.compiled().executable.program.steps) == steps
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), model(x), rtol=1e-3, atol=1e-3)
