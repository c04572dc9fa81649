"""Accuracy control end to end: the fastest that was tried within the bound, interrupted and resumed, or a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86 import AccuracyReport, Lower86Warning
from lower86.lowered import LoweredModule
from tests.models import digits, hard
from tests.models.small import MLP

BATCH = torch.export.Dim("batch", max=4096)
MAX_DROP = 0.01


@pytest.fixture(scope="module")
def hard_network(request: pytest.FixtureRequest) -> nn.Module:
    cache = request.config.cache
    return hard.trained(Path(cache.mkdir("lower86")) if cache is not None else Path())


class _Accuracy:
    """The metric; counts the programs that it has seen, and may be interrupted at one."""

    def __init__(self, interrupted_at: int = 0) -> None:
        self.programs = 0
        self._interrupted_at = interrupted_at

    def __call__(self, run: Callable[[Tensor], Tensor], validation: Any) -> float:
        self.programs += isinstance(run, LoweredModule)
        if self.programs and self.programs == self._interrupted_at:
            raise KeyboardInterrupt
        return digits.accuracy(torch.cat([run(x) for x, _ in validation]), torch.cat([y for _, y in validation]))


def _control(model: nn.Module, metric: _Accuracy, **options: Any) -> AccuracyReport:
    images, _, tests, labels = digits.digits()
    validation = list(zip(tests.split(200), labels.split(200), strict=True))
    return lower86.quantize_with_accuracy_control(
        model, images.split(64), validation, metric, example_inputs=images[:64], dynamic_shapes=({0: BATCH},),
        max_drop=MAX_DROP, progress=False, **options,
    )  # fmt: skip


def _check(report: AccuracyReport, model: nn.Module) -> None:
    """The report's claims, on the module that it returns."""
    _, _, tests, labels = digits.digits()
    with torch.no_grad():
        assert report.exact == pytest.approx(digits.accuracy(model(tests), labels))
    assert report.met
    assert report.chosen.drop <= MAX_DROP
    assert report.chosen.seconds == min(one.seconds for one in report.configurations if one.met)
    assert report.chosen in report.pareto
    assert digits.accuracy(report.lowered(tests), labels) == pytest.approx(report.chosen.metric)
    anew = lower86.lower_pt2e_quantized_to_x86(report.model, (tests[:8],), on_fallback="ignore")
    assert torch.equal(anew(tests), report.lowered(tests))
    int8 = {record.module for record in lower86.explain(report.lowered).operators}
    assert int8.isdisjoint(report.chosen.floats)
    assert len(int8) == len(report.layers) - len(report.chosen.floats)


def test_a_network_that_int8_ruins_interrupted_and_resumed(hard_network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    first, second, third = _Accuracy(interrupted_at=5), _Accuracy(), _Accuracy()
    with pytest.raises(KeyboardInterrupt):
        _control(hard_network, first, recipe="fast", resume=path)
    report = _control(hard_network, second, recipe="fast", resume=path)
    _check(report, hard_network)
    whole = next(one for one in report.configurations if not one.floats)
    assert whole.drop > 0.05
    assert 0 < len(report.chosen.floats) <= 4
    ruined = min(report.layers, key=lambda layer: layer.noise or 0.0)
    assert ruined.is_float
    assert "depthwise" in ruined.name
    assert first.programs - 1 + second.programs == len(report.configurations), "each was measured once"

    again = _control(hard_network, third, recipe="fast", resume=path)
    assert third.programs == 0
    assert again.chosen == report.chosen
    assert again.configurations == report.configurations


def test_the_default_recipe_is_enough(hard_network: nn.Module) -> None:
    report = _control(hard_network, _Accuracy())
    _check(report, hard_network)
    assert [one.floats for one in report.configurations] == [()]


def _near(model: nn.Module) -> Callable[[Any, Any], float]:
    """The metric: minus the largest error of the outputs."""

    def metric(run: Any, validation: Any) -> float:
        return -max(float((run(x) - model(x)).abs().max()) for x in validation)

    return metric


def test_a_budget_ends_the_search_with_the_best_so_far() -> None:
    model, inputs = MLP().eval(), [torch.randn(4, 16) for _ in range(4)]
    report = lower86.quantize_with_accuracy_control(
        model, inputs, iter(inputs), _near(model), max_drop=1e-5, budget=1e-3, progress=False
    )
    assert (report.stopped, report.met) == (True, True)
    assert report.chosen.floats == ("up", "down")
    assert len(report.configurations) == 2
    assert "budget" in report.sentence


def test_a_bound_that_cannot_be_met_is_a_warning() -> None:
    model, inputs = MLP().eval(), [torch.randn(4, 16) for _ in range(4)]

    def metric(run: Any, validation: Any) -> float:
        return _near(model)(run, validation) - isinstance(run, LoweredModule)

    with pytest.warns(Lower86Warning, match=r"absolute bound of 0.5 cannot be met: .* the best loses 1"):
        report = lower86.quantize_with_accuracy_control(model, inputs, inputs, metric, max_drop=0.5, progress=False)
    assert not report.met
    assert report.chosen.floats == ("up", "down")
    assert report.lowered(inputs[0]).shape == inputs[0].shape


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = MLP().eval(), [torch.randn(4, 16) for _ in range(4)]
    lower86.quantize_with_accuracy_control(
        model, inputs, inputs, _near(model), max_drop=1.0, recipe="fast", drop_type="absolute"
    )
    told = capsys.readouterr().err
    assert "the float model's metric is" in told
    assert "layers in float: 0, metric" in told
