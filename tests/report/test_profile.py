"""`profile`: every step, its work, its bytes; and the errors of those who ask wrongly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lower86
from lower86 import X86Quantizer
from lower86.report.peak import measured_peak
from lower86.report.profile import Profile, StepProfile
from tests.harness import TARGET
from tests.models.checks import lower, lower_anyhow
from tests.models.quantized import quantize


def test_every_step_is_timed_and_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.Flatten())
    x = torch.randn(2, 3, 8, 8)
    lowered = lower(quantize(model, (x,), quantizer=X86Quantizer()), x)
    before = lowered(x)
    profile = lower86.profile(lowered, x, seconds=0.05)
    assert torch.equal(lowered(x), before)
    assert len(profile.steps) == len(lowered.program.steps)
    assert all(step.seconds > 0 for step in profile.steps)
    by_kind = {step.kind.split()[0]: step for step in profile.steps}
    assert by_kind["contraction"].macs == 2 * 8 * 8 * 16 * 3 * 9
    assert by_kind["depthwise"].macs == 2 * 6 * 6 * 16 * 9
    # Input in int8 with its halo, weights, start values, scale and bias, output.
    assert by_kind["contraction"].bytes == 2 * 10 * 10 * 3 + 16 * 27 + 64 * 4 + 2 * 16 * 4 + 2 * 8 * 8 * 16
    lines = str(profile).splitlines()
    assert "ms a call on" in lines[0]
    assert lines[2].split()[:2] == ["us", "GMAC/s"]
    assert len(lines) == 3 + len(profile.steps)


def test_no_rate_follows_from_a_time_that_was_not_seen() -> None:
    steps = (StepProfile("a", "contraction", "", 1e-9, 4096, 10), StepProfile("b", "contraction", "", 1e-6, 4096, 10))
    _, _, _, first, second = str(Profile(steps, 1e-5, 1e12, 2)).splitlines()
    assert first.split() == ["<0.1", "0", "contraction", "a"]
    assert second.split() == ["1.0", "4", "0%", "0", "0.0", "contraction", "b"]


def test_foreign_steps_and_varying_sizes() -> None:
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sort(x * 2)[0] + 1

    dims = ({0: torch.export.Dim("n", max=100)},)
    lowered = lower_anyhow(Sorted(), torch.randn(3, 7), dynamic_shapes=dims)
    profile = lower86.profile(lowered, torch.randn(50, 7), seconds=0.05)
    (foreign,) = [step for step in profile.steps if step.kind == "foreign"]
    assert foreign.bytes == 2 * 50 * 7 * 4 + 50 * 7 * 8


def test_a_loop_is_one_step() -> None:
    lowered = lower_anyhow(nn.GRU(8, 19), torch.randn(7, 5, 8))
    profile = lower86.profile(lowered, torch.randn(7, 5, 8), seconds=0.05)
    (loop,) = [step for step in profile.steps if step.kind.startswith("loop")]
    assert (loop.kind, loop.shape) == ("loop of contraction f32 + pointwise", "7 times")
    assert loop.macs == 7 * 5 * 57 * 19
    # x, states, what the product gives, weight, bias
    assert loop.bytes == 4 * (7 * 5 * 57 + 8 * 5 * 19 + 5 * 57 + 57 * 19 + 57)


def test_what_cannot_be_profiled() -> None:
    with pytest.raises(lower86.Lower86Error, match="no program"):
        lower86.profile(nn.Linear(3, 3), torch.randn(2, 3))
    lowered = lower_anyhow(nn.ReLU(), torch.randn(2, 3))
    with pytest.raises(lower86.InputError, match="shape"):
        lower86.profile(lowered, torch.randn(3, 3))


def test_the_peak_of_every_level() -> None:
    assert measured_peak(1, target=TARGET, seconds=0.01) > 1e9
    assert measured_peak(1, target=lower86.Target.host(level="avx2"), seconds=0.01) > 1e9
