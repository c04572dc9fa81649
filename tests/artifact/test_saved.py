"""What a file means: sealed files whose container is right and whose contents are not are refused, saying where."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lower86
from lower86.artifact.format import METADATA, read
from lower86.artifact.saved import from_contents
from tests.artifact.round_trip import as_numpy, same_bits
from tests.models.checks import lower
from tests.models.qdq import Linear, grid


class Counts(torch.nn.Module):
    """Inputs by place and name, a fixed one, nested results, a size among them, state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(8, 8)
        self.register_buffer("total", torch.ones(8))

    def forward(self, x: Tensor, factor: float, *, bias: Tensor) -> Any:
        y = self.linear(x) * factor + bias
        self.total.add_(y.sum(0))
        return {"y": y, "others": [self.total.clone(), x.shape[0]]}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header but for its metadata, the metadata with its JSON parsed, the data."""
    torch.manual_seed(0)
    dims = {"x": {0: torch.export.Dim("n", max=9)}, "factor": None, "bias": {}}
    lowered = lower(Counts(), grid(3, 8), 0.5, example_kwargs={"bias": grid(8)}, dynamic_shapes=dims)
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    lower86.save(lowered, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop(METADATA)
    parsed = {name: json.loads(text) if text[0] in "{[" else text for name, text in metadata.items()}
    return header, parsed, content[8 + length :]


def sealed(folder: Path, header: dict[str, Any], metadata: dict[str, Any], data: bytes) -> Path:
    texts = {name: part if isinstance(part, str) else json.dumps(part) for name, part in metadata.items()}
    path = folder / "model.safetensors"
    path.write_bytes(lower86.artifact.seal({METADATA: texts, **header}, data))
    return path


def test_what_is_sealed_again_is_the_same_model(good: Any, tmp_path: Path) -> None:
    program = lower86.load(sealed(tmp_path, *copy.deepcopy(good)))
    inputs = as_numpy((grid(3, 8), 0.5))
    first = program(*inputs, bias=as_numpy(grid(8)))
    assert first["others"][1] == 3
    program.reset_state()
    assert program.named_state()["total"].tolist() == [1.0] * 8
    assert [str(spec) for spec in program.outputs[2:]] == [f"others.1: {str(program.program.dims[0].name)!r}"]
    same_bits(list(first), ["y", "others"])


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def at(part: str, *path: Any, value: Any = None, drop: bool = False) -> Change:
    """Replaces or drops what stands in a part of the metadata."""

    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        inner: Any = metadata
        keys = (part, *path)
        for key in keys[:-1]:
            inner = inner[key]
        if drop:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value

    return change


def renamed(old: str, new: str) -> Change:
    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        header[new] = header.pop(old)

    return change


def dropped(name: str) -> Change:
    """Its bytes become a state's that there is not."""
    return renamed(name, "state.5")


def both(*changes: Change) -> Change:
    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        for one in changes:
            one(header, metadata)

    return change


def reshaped(name: str, **fields: Any) -> Change:
    def change(header: dict[str, Any], metadata: dict[str, Any]) -> None:
        header[name] |= fields

    return change


def deep_size(header: dict[str, Any], metadata: dict[str, Any]) -> None:
    size: Any = 1
    for _ in range(12):
        size = [[1, [[size, 2]]]]
    metadata["interface"]["outputs"][2][2] = {"size": size}


LEAF: Any = None
WRONG: dict[str, tuple[Change, str, str]] = {
    "somebody else's weights": (at("format", value="pt"), "lower86.save has not written", "format"),
    "no format": (at("format", drop=True), "lower86.save has not written", "format"),
    "a newer version": (at("version", value="2"), "version '2', this lower86 reads 1", "version"),
    "a newer program": (at("program", "version", value=99), "version", ""),
    "no program": (at("program", drop=True), "not there", "program"),
    "a program that is a list": (at("program", value=[1]), "", ""),
    "no interface": (at("interface", drop=True), "not there", "interface"),
    "broken JSON": (at("interface", value="{"), "JSON holds", "__metadata__.interface"),
    "a key twice": (at("versions", value='{"a":"1","a":"2"}'), "'a' twice", "versions"),
    "NaN": (at("explanation", value='{"regions":NaN,"operators":[]}'), "literal NaN", "explanation"),
    "deep": (at("interface", value="[" * 5000 + "]" * 5000), "nested more than", "interface"),
    "half a character": (at("versions", value='{"a":"\\ud800"}'), "half a character", "versions"),
    "a field too many": (at("interface", "more", value=1), "is not an object of", "interface"),
    "a field too few": (at("interface", "names", drop=True), "is not an object of", "interface"),
    "names that are numbers": (at("interface", "names", value=[1, 2]), "is not a string", "names[0]"),
    "a name too few": (at("interface", "names", value=["x"]), "is not 2 different names", "names"),
    "names that are one": (at("interface", "names", value=["x", "x"]), "is not 2 different names", "names"),
    "inputs of one name": (
        at("interface", "inputs", value=[["x", "f32"], ["factor", "", 0.5], ["x", "f32"]]), "different names", "inputs",
    ),
    "an input too few": (at("interface", "inputs", 2, drop=True), "as many inputs", "inputs"),
    "an input of another dtype": (at("interface", "inputs", 0, value=["x", "f64"]), "the program's inputs", "inputs"),
    "a tensor that is said to be fixed": (
        at("interface", "inputs", 0, value=["x", "", 1]), "the program's inputs", "inputs",
    ),
    "a fixed value that is said to be a tensor": (
        at("interface", "inputs", 1, value=["factor", "f32"]), "the program's inputs", "inputs",
    ),
    "a dtype nobody knows": (at("interface", "inputs", 0, 1, value="f31"), "is not one of", "inputs[0][1]"),
    "a literal too many": (at("interface", "inputs", 0, value=["x", "f32", 1]), "is not a name", "inputs[0]"),
    "a literal that is a list": (at("interface", "inputs", 1, 2, value=[1]), "is not a number", "inputs[1][2]"),
    "a literal of many digits": (at("interface", "inputs", 1, 2, value=1 << 70), "64 bits", "inputs[1][2]"),
    "an output too many": (at("interface", "outputs", 0, value=["y", "", 1]), "the program's outputs", "outputs"),
    "a size of nothing": (
        at("interface", "outputs", 2, 2, value={"size": [[1, ["s"]]]}), "is not one of the program's dims", "[2]",
    ),
    "a size that is none": (at("interface", "outputs", 2, 2, value={"size": 1.5}), "is not a list", "size"),
    "a term that is none": (at("interface", "outputs", 2, 2, value={"size": [[1]]}), "is not a list of 2", "size[0]"),
    "a size without end": (
        at("interface", "outputs", 2, 2, value={"size": [[1, [[i, 1] for i in range(200)]] for _ in range(2)]}),
        "at most 256 factors", "size",
    ),
    "a size of deep divisions": (deep_size, "at most 8 deep", "size"),
    "positional arguments by name": (at("interface", "positional", value={"dict": []}), "is not an interface", ""),
    "named arguments by place": (at("interface", "named", value={"tuple": []}), "is not an interface", ""),
    "arguments of odd names": (at("interface", "named", value={"dict": [[1, LEAF]]}), "arguments by name", "named"),
    "a container nobody knows": (at("interface", "result", value={"set": [LEAF]}), "is not a tuple", "result"),
    "a container that is two": (
        at("interface", "result", value={"tuple": [], "list": []}), "is not null or an object of one key", "result",
    ),
    "a container of a number": (at("interface", "result", value={"tuple": 3}), "is not a list", "result.tuple"),
    "keys that are one": (
        at("interface", "result", value={"dict": [["a", LEAF], ["a", LEAF]]}), "different keys", "result.dict",
    ),
    "a result of another size": (at("interface", "result", value={"tuple": [LEAF]}), "as many outputs", "outputs"),
    "regions below 0": (at("explanation", "regions", value=-1), "is not a whole number", "regions"),
    "regions that are true": (at("explanation", "regions", value=True), "is not a whole number", "regions"),
    "a row too short": (at("explanation", "operators", 0, value=["a"]), "is not a list of 7", "operators[0]"),
    "a kernel there is not": (at("explanation", "operators", 0, 6, value=99), "is not a whole number", "[0][6]"),
    "work without end": (at("explanation", "operators", 0, 4, value=1 << 61), "is not a whole number", "[0][4]"),
    "versions that are a list": (at("versions", value=[1]), "is not an object of versions", "versions"),
    "a version that is a number": (at("versions", "torch", value=2), "is not a string", "versions.torch"),
    "a constant too few": (renamed("0", "state.1"), "", ""),
    "a constant of another name": (renamed("0", "weight"), "named 'weight'", ""),
    "a constant by another number": (renamed("0", "00"), "named '00'", ""),
    "a constant beyond the last": (renamed("0", "99"), "named '99'", ""),
    "ties that are a list": (at("tied", value=[]), "is not an object of constants", "tied"),
    "a tie to a name": (at("tied", value={"9": "0"}), "is not a whole number", "tied.9"),
    "a tie to no constant": (at("tied", value={"9": 77}), "'77', which is not so", "tied"),
    "a tie of a constant that is there": (at("tied", value={"1": 0}), "'1' is said to be '0'", "tied"),
    "a tie of a name": (at("tied", value={"weight": 0}), "named 'weight'", ""),
    "a tie to a tie": (at("tied", value={"90": 0, "91": 90}), "'91' is said to be '90'", "tied"),
    "ties without end": (at("tied", value={str(n): 0 for n in range(90, 400)}), "more is tied", "tied"),
    "a tied constant of another shape": (both(at("tied", value={"1": 0}), dropped("1")), "", ""),
    "state there is not": (renamed("state.0", "state.7"), "no 'state.7'", ""),
    "state of another shape": (reshaped("state.0", shape=[2, 4]), "it is f32 of [2, 4]", "state.0"),
    "state of another dtype": (reshaped("state.0", dtype="I32"), "it is i32 of [8]", "state.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str, good: Any, tmp_path: Path) -> None:
    header, metadata, data = copy.deepcopy(good)
    change, message, where = WRONG[name]
    change(header, metadata)
    path = sealed(tmp_path, header, metadata, data)
    with pytest.raises(lower86.ArtifactError) as caught:
        lower86.load(path)
    assert message in caught.value.what
    assert where in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([(64 << 20) // 4 + 2000], "bytes of state that it does not hold"),
        ([1 << 45, 1 << 45], "bytes of state that it does not hold"),
        ([1 << 50, 0], r"state of shape|a number|size|dims|shape"),
        ([{"size": [[1, ["s"]]]}], "state of a size that varies"),
    ],
)
def test_state_that_the_file_does_not_hold(good: Any, tmp_path: Path, shape: Any, message: str) -> None:
    """Zeros take no room in the file, so there is a limit to what a small one may ask for."""
    header, metadata, data = copy.deepcopy(good)
    contents = read(sealed(tmp_path, header, metadata, data))
    tensors = {name: stored for name, stored in contents.tensors.items() if name != "state.0"}
    (value,) = [one["Value"] for one in metadata["program"]["values"] if one["Value"][2] == "state"]
    value[1] = shape
    if "varies" in message:
        shape[0]["size"][0][1] = [metadata["program"]["dims"][0]["Dim"][0]]
    texts = {**contents.metadata, "program": json.dumps(metadata["program"])}
    with pytest.raises(lower86.ArtifactError, match=message) as caught:
        from_contents(dataclasses.replace(contents, metadata=texts, tensors=tensors), "name")
    assert caught.value.where.startswith("name, ")


def test_a_size_that_divides_by_nothing_is_an_error_of_the_call(good: Any, tmp_path: Path) -> None:
    header, metadata, data = copy.deepcopy(good)
    dim = metadata["program"]["dims"][0]["Dim"][0]
    metadata["interface"]["outputs"][2][2] = {"size": [[1, [[1, [[1, [dim]], [-1, []]]]]]]}  # 1 // (n - 1)
    program = lower86.load(sealed(tmp_path, header, metadata, data))
    x, bias = as_numpy((grid(1, 8), grid(8)))
    with pytest.raises(lower86.InputError, match="divid"):
        program(x, 0.5, bias=bias)
