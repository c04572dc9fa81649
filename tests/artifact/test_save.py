"""Saving: a whole file or none, of what the module is now; what no file can hold is refused by name."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.artifact import fields, save
from lower86.artifact.format import Contents, read
from lower86.artifact.saved import Saved, from_contents, to_contents
from lower86.program.program import Packing
from tests.artifact.round_trip import again, agrees
from tests.models.checks import lower, lower_anyhow
from tests.models.qdq import Linear, Q, grid


@pytest.fixture(scope="module")
def lowered() -> lower86.LoweredModule:
    torch.manual_seed(0)
    return lower(Linear(8, 8), grid(3, 8))


def test_it_replaces_what_was_there(lowered: lower86.LoweredModule, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    size = lower86.save(lowered, str(path))
    assert path.stat().st_size == size
    assert os.listdir(tmp_path) == ["model.safetensors"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    first = path.read_bytes()
    lower86.save(lowered, path)
    assert path.read_bytes() == first  # the same module is the same file


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_never_half_a_file(
    lowered: lower86.LoweredModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, problem: Any
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def fail(file: Any, *others: Any) -> None:
        if where == "write":
            file.write(b"half of it")
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(*((save, "write") if where == "write" else (os, where)), fail)
        with pytest.raises(lower86.ArtifactError if isinstance(problem, OSError) else KeyboardInterrupt) as caught:
            lower86.save(lowered, path)
    if isinstance(problem, OSError):
        assert "No space left" in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_where_nothing_can_be_written(lowered: lower86.LoweredModule, tmp_path: Path) -> None:
    with pytest.raises(lower86.ArtifactError, match="No such file"):
        lower86.save(lowered, tmp_path / "missing" / "model.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(lower86.ArtifactError, match="cannot be written"):
        lower86.save(lowered, tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_foreign_steps_are_refused_by_name_and_line(tmp_path: Path) -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x * 2)[0] + 1

    lowered = lower_anyhow(Sorted(), torch.randn(3, 7))
    with pytest.raises(lower86.UnsupportedError, match=r"1 step .* aten::sort .*test_save.py:\d+: return torch.sort"):
        lower86.save(lowered, tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == []


def test_what_a_file_cannot_describe(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, result: Any) -> None:
            super().__init__()
            self.result = result

        def forward(self, x: Tensor) -> Any:
            return self.result(x + 1)

    for result, message in (
        (lambda y: {(1, 2): y}, r"the result holds a dict with the key \(1, 2\)"),
        (lambda y: [y, deque([y])], "the result holds a deque, which a file cannot describe"),
    ):
        lowered = lower_anyhow(Odd(result), torch.randn(3))
        with pytest.raises(lower86.UnsupportedError, match=message):
            lower86.save(lowered, tmp_path / "model.safetensors")


def test_an_edited_module_is_saved_as_it_is_now(lowered: lower86.LoweredModule, tmp_path: Path) -> None:
    import copy

    edited = copy.deepcopy(lowered)
    (output,) = [node for node in edited.graph.nodes if node.op == "output"]
    (result,) = output.all_input_nodes
    with edited.graph.inserting_before(output):
        doubled = edited.graph.call_function(torch.ops.aten.mul.Tensor, (result, 2.0))
    output.replace_input_with(result, doubled)
    edited.recompile()
    x = grid(3, 8)
    program = again(edited, tmp_path)
    agrees(edited, program, x)
    assert torch.equal(program(x), lowered(x) * 2)


def test_what_could_not_be_loaded_is_not_saved(
    lowered: lower86.LoweredModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, message in (
        (save, "MOST_HEADER_BYTES", "bytes of description"),
        (save, "MOST_TENSORS", "tensors"),
        (fields, "MOST_TEXT", "string"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 3)
            with pytest.raises(lower86.UnsupportedError, match=f"beyond what a file may hold: .*{message}"):
                lower86.save(lowered, tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("thing", [nn.Linear(2, 2), None, "model"])
def test_what_is_no_lowered_module(thing: Any, tmp_path: Path) -> None:
    with pytest.raises(lower86.UnsupportedError, match="is not a lowered module"):
        lower86.save(thing, tmp_path / "model.safetensors")


def test_constants_are_held_once(tmp_path: Path) -> None:
    """Weights in int8 as they are, a few bytes a row beside them."""
    shared = Linear(256, 256)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = shared, Linear(256, 256)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(self.first(x)))

    lowered = lower(Twice(), grid(3, 256))
    size = lower86.save(lowered, tmp_path / "model.safetensors")
    weights = 2 * 256 * 256
    tensors = read(tmp_path / "model.safetensors").tensors
    assert sum(one.array.nbytes for one in tensors.values() if one.dtype == "i8") == weights
    rest = sum(one.array.nbytes for one in tensors.values() if one.dtype != "i8")
    assert rest <= 2 * 256 * 4 * 4
    assert size - weights - rest < 10_000


class _TiedTable(nn.Module):
    """Rows of an int8 table; what is next to them multiplied by the same table."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randint(-128, 128, (90, 1024), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(90) + 0.01)
        self.register_buffer("zeros", torch.zeros(90, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        table = Q.dequantize_per_channel(self.table, self.scales, self.zeros, 0, -128, 127, torch.int8)
        x = nn.functional.embedding(ids, table)
        x = Q.dequantize_per_tensor(Q.quantize_per_tensor(x, 0.5, 7, 0, 255, torch.uint8), 0.5, 7, 0, 255, torch.uint8)
        return nn.functional.linear(x, table)


def test_a_tied_table_is_held_once(tmp_path: Path) -> None:
    """As rows it lies as it is, as a weight in panels: two constants of the program, one of the file."""
    torch.manual_seed(0)
    lowered = lower(_TiedTable(), torch.tensor([[3, 89, 0]]))
    program = again(lowered, tmp_path)
    held = [s.array.shape for s in read(tmp_path / "model.safetensors").tensors.values()].count((90, 1024))
    packings = [
        p.kind
        for c, p in zip(lowered.program.constants, lowered.program.packings, strict=True)
        if c.shape == (90, 1024)
    ]
    assert (held, sorted(packings)) == (1, ["int8_panels", "none"])
    agrees(lowered, program, torch.tensor([[3, 89, 0]]))
    agrees(lowered, lower86.load(tmp_path / "model.safetensors", cache=False), torch.tensor([[1, 2, 88]]))


def test_no_more_is_tied_than_a_file_may_say() -> None:
    """What is read lays each tied constant out anew, so it has a bound; what is beyond it is held again."""
    torch.manual_seed(0)
    program, interface, explanation, state = lower(_TiedTable(), torch.tensor([[3, 89, 0]])).portable()
    (table, *_) = [one for one in program.constants if one.shape == (90, 1024)]
    more = dataclasses.replace(
        program,
        constants=(*program.constants, table, table, table),
        packings=(*program.packings, *[Packing()] * 3),
    )
    metadata, tensors = to_contents(Saved(more, interface, explanation, state, {}))
    assert [one.array.shape for one in tensors.values()].count((90, 1024)) == 3  # of five
    found = from_contents(Contents(metadata, tensors, 0, ""), "model")
    assert len(found.program.constants) == len(more.constants)
    assert all(np.array_equal(*pair) for pair in zip(found.program.constants, more.constants, strict=True))
