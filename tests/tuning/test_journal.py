"""What is written is read again; what is no such file is refused and left as it is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from lower86.errors import Lower86Error
from lower86.tuning.journal import Journal, fingerprint


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    first = Journal(path)
    first.open("a")
    first.keep_seconds(0.5)
    first.keep_configuration({"y", "x"}, "bf16", -math.inf, 1.25)
    first.keep_configuration({"x"}, "float32", 0.5, 1.5)
    first.keep_configuration((), "float32", 0.25, 1.0)
    first.keep_numbers("noise", {"x": 12.5, "y": math.inf})
    again = Journal(path)
    again.open("a")
    assert again.seconds == 0.5
    int8 = {frozenset[str](): (0.25, 1.0)}
    assert again.tried("bf16") == {frozenset({"x", "y"}): (-math.inf, 1.25)} | int8
    assert again.tried("float32") == {frozenset({"x"}): (0.5, 1.5)} | int8
    assert again.numbers("noise") == {"x": 12.5, "y": math.inf}
    again.open("b")
    assert (again.seconds, again.tried("bf16"), again.numbers("noise")) == (None, {}, {})
    again.keep_seconds(1.0)
    third = Journal(path)
    third.open("a")
    assert third.seconds == 0.5
    assert list(tmp_path.iterdir()) == [path]


RUN = {"seconds": 1.0, "tried": [], "numbers": {}}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"weights": 1}',
        *(
            json.dumps({"lower86 accuracy control": 1, "runs": runs})
            for runs in (
                [], {"a": 1}, {"a": {}}, {"a": {**RUN, "seconds": "fast"}}, {"a": {**RUN, "tried": [1]}},
                {"a": {**RUN, "tried": [{"float": [], "metric": None, "ratio": 1}]}},
                {"a": {**RUN, "numbers": {"noise": {"x": "loud"}}}},
            )
        ),
    ],
)  # fmt: skip
def test_another_file_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(Lower86Error, match="delete it to begin anew"):
        Journal(path)
    assert path.read_text() == content


def test_a_fingerprint_is_that_of_weights_and_inputs() -> None:
    def taken(bias: float, x: torch.Tensor) -> str:
        layer = nn.Linear(2, 2)
        nn.init.ones_(layer.weight)
        nn.init.constant_(layer.bias, bias)
        graph = torch.export.export(layer, (torch.ones(1, 2),)).module(check_guards=False)
        assert isinstance(graph, torch.fx.GraphModule)
        return fingerprint(graph, [[x]])

    one = torch.ones(1, 2)
    assert taken(0.5, one) == taken(0.5, one.clone())
    assert len({taken(0.5, one), taken(0.25, one), taken(0.5, 2 * one), taken(0.5, one.to(torch.bfloat16))}) == 4
