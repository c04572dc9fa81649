"""A metric or validation data of no use is an error at once, with what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.errors import InputError, Lower86Error
from lower86.tuning.metric import measured, repeatable

MODEL = nn.Sequential(nn.Linear(8, 4)).eval()
INPUTS = [torch.randn(2, 8) for _ in range(3)]


def _control(metric: Any, validation: Any = INPUTS, **options: Any) -> Any:
    return lower86.quantize_with_accuracy_control(MODEL, INPUTS, validation, metric, progress=False, **options)


def _one(run: Any, validation: Any) -> float:
    raise AssertionError("it is not to be called")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "gave None for the float model.*\n.*\n.*return"),
        (math.nan, "is nan"),
        (math.inf, "is inf"),
        ("0.9", "gave a str"),
        (torch.zeros(2), r"a tensor of shape \[2\]"),
        ([0.5], "gave a list"),
    ],
)
def test_what_is_no_number(value: Any, says: str) -> None:
    calls = []

    def metric(run: Any, validation: Any) -> Any:
        calls.append(run)
        return value

    with pytest.raises(Lower86Error, match=says):
        _control(metric)
    assert len(calls) == 1, "the float model's is the first and the last"


@pytest.mark.parametrize(
    "value", [1, True, 0.5, numpy.float32(0.5), numpy.array(0.5), torch.tensor(0.5), torch.ones(1)]
)
def test_what_is_a_number(value: Any) -> None:
    assert measured(lambda run, data: value, MODEL, INPUTS, "it") == float(value)


def test_a_metric_that_fails_on_the_float_model() -> None:
    with pytest.raises(Lower86Error, match=r"the metric failed on the float model: KeyError: 'logits'") as raised:
        _control(lambda run, validation: {}["logits"])
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_call_that_no_compiled_program_will_take() -> None:
    with pytest.raises(InputError, match=r"validation, a call by the metric, input input"):
        _control(lambda run, validation: run(torch.cat(validation)).mean())


class _Counting(nn.Module):
    """Its state is what it has added up so far."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.register_buffer("total", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.total += self.layer(x)
        return self.total.clone()


def test_state_is_left_as_it_was() -> None:
    model = _Counting().eval()
    report = lower86.quantize_with_accuracy_control(
        model, INPUTS, INPUTS, lambda run, data: 0 * next(float(run(x).sum()) for x in data), progress=False
    )
    assert not model.total.any()
    with torch.no_grad():
        torch.testing.assert_close(report.lowered(INPUTS[0]), model.layer(INPUTS[0]), rtol=0, atol=0.05)


def test_no_validation() -> None:
    used_up = iter(INPUTS)
    list(used_up)
    for nothing in ([], used_up, (x for x in [])):
        with pytest.raises(InputError, match=r"empty[\s\S]*used up"):
            _control(_one, nothing)
    with pytest.raises(InputError, match="cannot be iterated"):
        _control(_one, None)


class _OnceOnly:
    def __init__(self) -> None:
        self._items = iter(INPUTS)

    def __iter__(self) -> Iterator[Tensor]:
        return self._items


def test_what_can_be_gone_through_once_is_kept() -> None:
    for once in (iter(INPUTS), (x for x in INPUTS), _OnceOnly()):
        data = repeatable(once)
        assert all(len(list(data)) == 3 and next(iter(data)) is INPUTS[0] for _ in range(2))
    assert repeatable(INPUTS) is INPUTS


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_drop": -0.01}, "max_drop=-0.01"),
        ({"max_drop": math.nan}, "max_drop=nan"),
        ({"max_drop": "1%"}, "max_drop='1%'"),
        ({"drop_type": "percent"}, "drop_type='percent'"),
        ({"budget": 0}, "budget=0"),
        ({"search": "size"}, "search='size'"),
        ({"recipe": "balansed"}, "did you mean 'balanced'"),
        ({"resume": "/nowhere/at/all.json"}, "no place for a file"),
    ],
)
def test_arguments_without_meaning(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Lower86Error, match=says):
        _control(_one, **options)


def test_a_metric_that_is_no_function() -> None:
    with pytest.raises(Lower86Error, match="the metric is a float"):
        _control(0.9)


def test_a_share_of_nothing() -> None:
    with pytest.raises(Lower86Error, match="metric is 0"):
        _control(lambda run, validation: 0.0, drop_type="relative")


def test_what_is_to_be_ignored_has_to_be_there() -> None:
    with pytest.raises(Lower86Error, match="matches nothing"):
        _control(lambda run, validation: 1.0, ignored=["head"])
