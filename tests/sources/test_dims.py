"""`INPUT:AXIS=DIM` opens axes of whatever the model takes, nested or not."""

from __future__ import annotations

import pytest
import torch

from lower86.errors import InputError
from lower86.sources.dims import with_dims
from lower86.sources.model import ModelSource
from lower86.sources.naming import Example, inputs_of


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor, more: list[torch.Tensor], factor: float = 1.0) -> torch.Tensor:
        return x * factor + more[0] + more[1]


def source(example: Example | None) -> ModelSource:
    model = Nested()
    return ModelSource("nested", model, example, None, inputs_of(model, example, None))


def test_axes_of_one_dim_are_equal() -> None:
    example = Example((torch.zeros(2, 3), [torch.zeros(2, 1), torch.zeros(3)], 2.0), {})
    opened = with_dims(source(example), ["x:0=rows:64", "more_0:0=rows"])
    assert [(one.name, set(one.open_axes)) for one in opened.inputs] == [("x", {0}), ("more_0", {0}), ("more_1", set())]
    assert opened.dynamic_shapes["x"][0] is opened.dynamic_shapes["more"][0][0]
    exported = torch.export.export(opened.model, example.args, dynamic_shapes=opened.dynamic_shapes).module()
    assert exported(torch.zeros(5, 3), [torch.ones(5, 1), torch.zeros(3)], 2.0).shape == (5, 3)
    assert with_dims(source(example), []).dynamic_shapes is None


def test_without_an_example() -> None:
    opened = with_dims(source(None), ["x:1=columns"])
    assert set(opened.dynamic_shapes) == {"x", "more"}
    assert list(opened.dynamic_shapes["x"]) == [1]


@pytest.mark.parametrize(
    "text", ["x", "x:0", "x:0=", "x=rows", "x:a=rows", "x:0=1", "x:0=rows:", "x:0=rows:b", "x:0=rows:0", ":0=r"]
)
def test_what_is_of_another_form(text: str) -> None:
    with pytest.raises(InputError, match="is not INPUT:AXIS=DIM"):
        with_dims(source(None), [text])


def test_two_limits_for_one_dim() -> None:
    example = Example((torch.zeros(2, 3), [torch.zeros(2, 1), torch.zeros(3)], 2.0), {})
    with pytest.raises(InputError, match=r"rows is at most 64 by x:0=rows:64, and 32 by more_0:0=rows:32") as caught:
        with_dims(source(example), ["x:0=rows:64", "more_0:0=rows:32"])
    assert "--dynamic" in caught.value.where
    for wanted in (["x:0=rows:64", "more_0:0=rows:64"], ["x:0=rows", "more_0:0=rows:64"]):
        opened = with_dims(source(example), wanted).dynamic_shapes
        assert opened["x"][0] is opened["more"][0][0]
        assert opened["x"][0].max == 64


def test_one_axis_twice() -> None:
    for first, second in (("x:0=rows", "x:0=batch"), ("x:0=rows", "x:00=other")):
        with pytest.raises(InputError, match=f"axis 0 of x is {first} and {second}"):
            with_dims(source(None), [first, second])
    assert list(with_dims(source(None), ["x:0=rows:8", "x:0=rows"]).dynamic_shapes["x"]) == [0]


@pytest.mark.parametrize(("most", "said"), [("1", "at most 1"), ("99999999999999999999", "is more than 2147483647")])
def test_limits_that_are_none(most: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_dims(source(None), [f"x:0=rows:{most}"])
