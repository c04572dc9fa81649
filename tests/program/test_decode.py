"""Data that is no program: what is wrong with it, and where."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from lower86.errors import ArtifactError
from lower86.program.decode import MOST_NESTED, program_from_json, size_from_json
from tests.program.test_program import program

Change = Callable[[Any], Any]


def data() -> Any:
    one = program()
    return json.loads(json.dumps(one.to_json()))


def refused(changed: Any) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        program_from_json(changed, program().constants)
    return caught.value


def test_the_data_is_read_as_it_was_written() -> None:
    assert program_from_json(data(), program().constants) == program()
    assert program_from_json(data(), program().constants).to_json() == data()


@pytest.mark.parametrize("whole", [None, 7, [], "program", {}, [{}], {"version": 1}, {1: 2}])
def test_not_a_program(whole: Any) -> None:
    refused(whole)


@pytest.mark.parametrize("version", [0, 2, True, 1.0, "1", None, [], 10**30])
def test_other_versions(version: Any) -> None:
    error = refused({**data(), "version": version})
    assert "this lower86 reads 1" in error.what
    assert "save the model again" in error.fix


def set_at(path: list[Any], value: Any) -> Change:
    def change(whole: Any) -> Any:
        whole = copy.deepcopy(whole)
        holder = whole
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        return whole

    return change


NODES = ["kernels", 0, "Pointwise", 1, "Body", 0]
SIZE = ["kernels", 0, "Pointwise", 0, 0]


def terms(count: int) -> Any:
    return {"size": [[1, [f"d{i}"]] for i in range(count)]}


def nested(depth: int) -> Any:
    size: Any = [[1, ["d0"]]]
    for _ in range(depth):
        size = [[1, [[size, 3]]]]
    return {"size": size}


def tuples(depth: int) -> Any:
    whole: Any = []
    for _ in range(depth):
        whole = [whole]
    return whole


WRONG: dict[str, tuple[list[Any], Any, str, str]] = {
    "no list": (["values"], 7, "a list belongs here", "values"),
    "an int for a class": (["values", 0], 7, "Value belongs here", "values[0]"),
    "another class": (["values", 0], {"Dim": ["n", 0, 1, 0, 0, 1, 0]}, "Value belongs here, not 'Dim'", "values[0]"),
    "two classes": (["values", 0], {"Value": [], "Dim": []}, "Value belongs here", "values[0]"),
    "no class": (["values", 0], {}, "Value belongs here", "values[0]"),
    "an unknown kernel": (["kernels", 3], {"System": ["rm"]}, "belongs here, not 'System'", "kernels[3]"),
    "a field too few": (["values", 0], {"Value": ["f32", [], "input", 0]}, "a Value has the fields dtype", "values[0]"),
    "a bool for an int": (["values", 0, "Value", 3], True, "a whole number belongs here", "values[0].index"),
    "a float for an int": (["values", 0, "Value", 3], 1.0, "a whole number belongs here", "values[0].index"),
    "an int beyond 64 bits": (["values", 0, "Value", 3], 2**63, "does not fit 64 bits", "values[0].index"),
    "a number for text": (["values", 0, "Value", 0], 7, "a short text belongs here", "values[0].dtype"),
    "long text": (["steps", 0, "Step", 4], "x" * 5000, "a short text belongs here", "steps[0].label"),
    "an int for a bool": (["packings", 0, "Packing", 2], 1, "true or false belongs here", "packings[0].shared"),
    "a list too short": (["steps", 0, "Step", 1, 0], [0], "a list of 2 belongs here", "steps[0].slots[0]"),
    "null": (["steps", 0, "Step", 1, 0, 0], None, "a whole number belongs here", "steps[0].slots[0][0]"),
    "a bool for a number": (["steps", 0, "Step", 3, 0, 1], True, "a whole number", "steps[0].params[0][1]"),
    "NaN by itself": (["steps", 0, "Step", 3, 0, 1], float("nan"), "not finite", "steps[0].params[0][1]"),
    "an odd float": (["steps", 0, "Step", 3, 0, 1], {"float": "0x1"}, "a number belongs", "steps[0].params[0][1]"),
    "an argument that is text": ([*NODES, 1, "Node", 1], ["0"], "a whole number", "kernels[0].body.nodes[1].args[0]"),
    "an object as attribute": (
        [*NODES, 1, "Node", 3], [{"Node": []}], "a number belongs here", "kernels[0].body.nodes[1].attrs[0]",
    ),
    "null as attribute": ([*NODES, 1, "Node", 3], [None], "does not belong", "kernels[0].body.nodes[1].attrs[0]"),
    "attributes without end": ([*NODES, 1, "Node", 3], [tuples(90)], "tuples within", "kernels[0].body.nodes[1].attrs"),
    "a size that is text": (SIZE, "d0", "does not belong here", "kernels[0].sizes[0]"),
    "a size of nothing": (SIZE, {"size": 7}, "a size belongs here", "kernels[0].sizes[0]"),
    "a size that is a number": (SIZE, {"size": [[7, []]]}, "simplest form", "kernels[0].sizes[0]"),
    "terms out of order": (SIZE, {"size": [[1, ["d1"]], [1, ["d0"]]]}, "simplest form", "kernels[0].sizes[0]"),
    "a term twice": (SIZE, {"size": [[1, ["d0"]], [1, ["d0"]]]}, "simplest form", "kernels[0].sizes[0]"),
    "a term of 0": (SIZE, {"size": [[0, ["d0"]]]}, "simplest form", "kernels[0].sizes[0]"),
    "a term that is none": (SIZE, {"size": [[1]]}, "a term of a size is", "kernels[0].sizes[0]"),
    "a factor that is none": (SIZE, {"size": [[1, [7]]]}, "a factor of a size is", "kernels[0].sizes[0]"),
    "a bool as a coefficient": (SIZE, {"size": [[True, ["d0"]]]}, "a whole number", "kernels[0].sizes[0]"),
    "many terms": (SIZE, terms(65), "up to 64 terms", "kernels[0].sizes[0]"),
    "many factors": (SIZE, {"size": [[1, ["d0"] * 9]]}, "up to 8 factors", "kernels[0].sizes[0]"),
    "many parts": (
        SIZE, {"size": [[1, [[terms(60)["size"], 3 + i] for i in range(3)]]]}, "up to 256 terms", "kernels[0].sizes[0]",
    ),
    "divisions without end": (SIZE, nested(MOST_NESTED + 1), "up to 8 divisions", "kernels[0].sizes[0]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_data(name: str) -> None:
    path, value, what, where = WRONG[name]
    error = refused(set_at(path, value)(data()))
    assert what in error.what
    assert error.where.startswith(where)
    assert len(str(error)) < 600


def test_depth_that_no_recursion_would_take() -> None:
    assert "divisions" in refused(set_at(SIZE, nested(100_000))(data())).what
    assert "tuples" in refused(set_at([*NODES, 1, "Node", 3], tuples(100_000))(data())).what


def test_fields_that_there_are_not() -> None:
    assert refused({**data(), "code": "import os"}).where == "'code'"
    whole = data()
    del whole["states"]
    assert refused(whole).where == "'states'"


@pytest.mark.parametrize("size", [True, 2**63, [[1, ["a"]], [2, ["a"]]], [[5, []]], [], "a", None, [[1.0, ["a"]]]])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(ArtifactError):
        size_from_json(size)
