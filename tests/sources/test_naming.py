"""A call's tensors by name, whatever they are nested in, and calls made of them again."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

from lower86.errors import Lower86Error
from lower86.sources.naming import Example, call_with, example_of, inputs_of


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor], *rest: torch.Tensor, scale: float) -> object:
        return x * more["a"] + rest[0] * rest[1] * scale


class ByName(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor, more: float = 1.0) -> torch.Tensor:
        return x * scale * more


X = torch.zeros(2, 3)


def test_names_of_nested_arguments() -> None:
    example = Example((X, {"a": X}, X, X), {"scale": 2.0})
    rows = {0: Dim("rows")}
    inputs = inputs_of(Nested(), example, {"x": rows, "more": {"a": rows}, "rest": (None, rows), "scale": None})
    assert [one.name for one in inputs] == ["x", "more_a", "rest_0", "rest_1"]
    assert [one.rows_vary for one in inputs] == [True, True, False, True], "one tensor in several places is several"


def test_calls_are_nested_as_the_example() -> None:
    example = Example((X, [X, {"b": X}], None), {})
    model = torch.nn.Module()
    model.forward = lambda x, pair, mask: x  # type: ignore[method-assign, assignment] # only its signature counts
    made = call_with(model, example, {"pair_1_b": X + 1})
    assert torch.equal(made[1][1]["b"], X + 1)
    assert torch.equal(made[1][0], X)
    assert made[2] is None


def test_arguments_by_name() -> None:
    example = Example((X,), {"scale": X})
    assert [one.name for one in inputs_of(ByName(), example, None)] == ["x", "scale"]
    made = call_with(ByName(), example, {"scale": X + 2})
    assert list(made) == ["x", "scale"]
    program = torch.export.export(ByName(), example.args, dict(example.kwargs))
    again = call_with(program.module(check_guards=False), example, {"x": X + 1, "scale": X + 2})
    assert torch.equal(ByName()(**again), (X + 1) * 2)
    assert example_of(again).kwargs.keys() == {"x", "scale"}
    assert example_of(X).args[0].shape == X.shape


def test_an_example_that_the_model_does_not_take() -> None:
    with pytest.raises(Lower86Error, match="the model does not take its example inputs"):
        inputs_of(ByName(), Example((X, X), {}), None)
