"""Examples that would close an open dim are made larger, and stay arguments by place or by name as they were."""

from __future__ import annotations

import re

import pytest
import torch
from torch.export import Dim

import lower86
from lower86.errors import ExportError, InputError
from lower86.frontend.dynamic import larger_examples


class Gathered(torch.nn.Module):
    def forward(self, x: torch.Tensor, *rest: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        return x + sum(rest) + sum(more.values())


class ByName(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


def test_arguments_of_a_graph_stay_as_they_are_given() -> None:
    rows = {0: Dim("rows")}
    shapes = {"x": rows, "scale": rows}
    x = torch.zeros(2, 3)
    graph = torch.export.export(ByName(), (x,), {"scale": x}, dynamic_shapes=shapes).module(check_guards=False)
    args, kwargs = larger_examples(graph, (x[:1],), {"scale": x[:1]}, shapes)
    assert [tensor.shape for tensor in args] == [(2, 3)]
    assert {name: tensor.shape for name, tensor in kwargs.items()} == {"scale": (2, 3)}


def test_arguments_that_a_model_gathers() -> None:
    """Just as many as it has names for them, and not."""
    rows = {0: Dim("rows")}
    x = torch.zeros(1, 3)
    for rest, names in ((1, ()), (0, ("a",)), (2, ("a", "b")), (0, ())):
        shapes = {"x": rows, "rest": (rows,) * rest, "more": dict.fromkeys(names, rows)}
        args, kwargs = larger_examples(Gathered(), (x,) * (1 + rest), dict.fromkeys(names, x), shapes)
        assert [tensor.shape for tensor in args] == [(2, 3)] * (1 + rest)
        assert {name: tensor.shape for name, tensor in kwargs.items()} == dict.fromkeys(names, (2, 3))


def test_an_axis_that_there_is_not() -> None:
    for spec in ({3: Dim("rows")}, [None, None, Dim("rows")]):
        with pytest.raises(InputError, match=r"axis [23] of a tensor of shape \[2, 3\]"):
            larger_examples(torch.nn.Linear(3, 4), (torch.zeros(2, 3),), {}, {"input": spec})


class Twins(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


@pytest.mark.parametrize(
    ("shapes", "what", "fix"),
    [
        (({0: Dim("rows")}, None), r"rows.* constant \(2\)\.$", "give both axes the same dim"),
        (({0: Dim("rows")}, {0: Dim("others")}), r"others.*rows.*must always be equal\.$", "fit the model"),
    ],
)
def test_dims_that_do_not_fit(shapes: object, what: str, fix: str) -> None:
    """What torch says of its own settings is left out."""
    with pytest.raises(ExportError) as caught:
        lower86.lower_pt2e_quantized_to_x86(Twins(), (torch.zeros(2, 3), torch.ones(2, 3)), dynamic_shapes=shapes)
    assert re.search(what, caught.value.what, re.DOTALL)
    assert not re.search("TORCH_LOGS|mark_dynamic|fixes:", caught.value.what)
    assert fix in caught.value.fix
