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
from lower86.tuning import latency
from tests.models import digits, hard
from tests.models.small import MLP

MAX_DROP = 0.01
VALIDATION = [(x, y) for x, y in zip(*(part.split(64) for part in digits.digits()[2:]), strict=True) if len(x) == 64]


@pytest.fixture(scope="module")
def hard_network(request: pytest.FixtureRequest) -> nn.Module:
    cache = request.config.cache
    return hard.trained(Path(cache.mkdir("lower86")) if cache is not None else Path())


@pytest.fixture(autouse=True)
def _measured_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how near the ratios of latencies are."""
    monkeypatch.setattr(latency, "_SECONDS", 0.0)
    monkeypatch.setattr(latency, "_MOST_SECONDS", 0.2)


def _accuracy(run: Callable[[Tensor], Tensor], validation: Any) -> float:
    return digits.accuracy(torch.cat([run(x) for x, _ in validation]), torch.cat([y for _, y in validation]))


def _control(model: nn.Module, **options: Any) -> AccuracyReport:
    images = digits.digits()[0]
    return lower86.quantize_with_accuracy_control(
        model, images[: 18 * 64].split(64), VALIDATION, _accuracy, max_drop=MAX_DROP, progress=False, **options
    )


def _check(report: AccuracyReport, model: nn.Module) -> None:
    """The report's claims, on the module that it returns."""
    with torch.no_grad():
        assert report.exact == _accuracy(model, VALIDATION)
    assert report.met
    assert report.chosen.drop <= MAX_DROP
    assert report.chosen.seconds == min(one.seconds for one in report.configurations if one.met)
    assert report.chosen in report.pareto
    assert _accuracy(report.lowered, VALIDATION) == report.chosen.metric
    x = VALIDATION[0][0]
    anew = lower86.lower_pt2e_quantized_to_x86(report.model, (x,), on_fallback="ignore")
    assert torch.equal(anew(x), report.lowered(x))
    int8 = {record.module for record in lower86.explain(report.lowered).operators}
    assert int8.isdisjoint(report.chosen.floats)
    assert len(int8) == len(report.layers) - len(report.chosen.floats)


def test_a_network_that_int8_ruins(hard_network: nn.Module) -> None:
    report = _control(hard_network, recipe="fast")
    _check(report, hard_network)
    whole = next(one for one in report.configurations if not one.floats)
    assert whole.drop > 0.05
    assert 0 < len(report.chosen.floats) <= 4
    ruined = min(report.layers, key=lambda layer: layer.noise or 0.0)
    assert ruined.is_float
    assert "depthwise" in ruined.name


def test_the_default_recipe_is_enough(hard_network: nn.Module) -> None:
    report = _control(hard_network)
    _check(report, hard_network)
    assert [one.floats for one in report.configurations] == [()]


def _near(model: nn.Module) -> Callable[[Any, Any], float]:
    """The metric: minus the largest error of the outputs."""

    def metric(run: Any, validation: Any) -> float:
        return -max(float((run(x) - model(x)).abs().max()) for x in validation)

    return metric


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    model, inputs = MLP().eval(), [torch.randn(4, 16) for _ in range(4)]
    near, seen, path = _near(model), [0], tmp_path / "tried.json"

    def metric(run: Any, validation: Any) -> float:
        seen[-1] += isinstance(run, LoweredModule)
        if seen == [3]:
            raise KeyboardInterrupt
        return near(run, validation)

    def control(**options: Any) -> AccuracyReport:
        given = {"max_drop": 1e-5, "progress": False, "resume": path, **options}
        return lower86.quantize_with_accuracy_control(model, inputs, inputs, metric, **given)

    with pytest.raises(KeyboardInterrupt):
        control()
    seen.append(0)
    report = control()
    assert (report.chosen.floats, len(report.configurations)) == (("up", "down"), 4)
    assert seen[1] == 4 - 2, "each was measured once"
    seen.append(0)
    again = control()
    assert (seen[2], again.configurations) == (0, report.configurations)
    seen.append(0)
    other = control(max_drop=1.0)
    assert (seen[3], other.met) == (0, True), "the bound is no part of what was measured"
    control(recipe="fast", max_drop=1.0)
    assert seen[3] == 1, "the recipe is"


def test_layers_are_given_back_to_bf16_where_that_is_exact_enough() -> None:
    torch.manual_seed(0)
    model, inputs = MLP().eval(), [torch.randn(4, 16) for _ in range(4)]
    calibration = [50 * x for x in inputs]

    def control(**options: Any) -> AccuracyReport:
        given = {"recipe": "fast", "progress": False, **options}
        return lower86.quantize_with_accuracy_control(model, calibration, inputs, _near(model), **given)

    with pytest.warns(Lower86Warning, match="cannot be met"):
        report = control(max_drop=1e-6, float_dtype="bf16")
    drops = {len(one.floats): one.drop for one in report.configurations}
    assert drops[2] < drops[0] / 5, "integers of such a range are rough"
    for bound, dtype in ((5 * drops[2], "bf16"), (3 * drops[2], "float32")):
        report = control(max_drop=bound, float_dtype="auto")
        expected = dtype if lower86.Target.host().has_bf16_dots else "float32"
        assert (report.met, report.float_dtype) == (True, expected)
        assert ("in bf16" in str(report)) == (expected == "bf16")
        assert f'"float_dtype": "{expected}"' in report.to_json()
    assert control(max_drop=5 * drops[2]).float_dtype == "float32"
    with pytest.raises(lower86.Lower86Error, match="float_dtype='f16'"):
        control(float_dtype="f16")


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
