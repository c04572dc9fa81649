"""Files whose hash is right and whose program is made up: each is refused, when it is loaded or called, in a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lower86
from lower86.artifact import Limits
from lower86.program.program import Program
from tests.fuzz.sealed import sealed
from tests.fuzz.spending import Spending
from tests.program.test_validate import BAD, PROGRAMS, program
from tests.runtime.test_bounds import OUTSIDE, PACKS, WHOLE, packing, step
from tests.runtime.test_bounds import program as copying

LEFT_OUT = {"constants of objects"}
"""What no file can hold."""
MADE_UP: dict[str, Program] = {
    **{f"kernel: {name}": program(kernels=(kernel,), steps=()) for name, (kernel, _) in BAD.items()},
    **{f"program: {name}": one for name, (one, _) in PROGRAMS.items() if name not in LEFT_OUT},
    "a newer version": program(),
}


def put(folder: Path, data: Any, constants: Any) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(sealed(data, constants))
    return path


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a file takes counts beyond the imports."""
    one = program()
    lower86.load(put(tmp_path_factory.mktemp("good"), one.to_json(), one.constants))(np.zeros(5, np.float32))


@pytest.mark.parametrize("name", MADE_UP)
def test_what_makes_no_sense_is_not_loaded(name: str, tmp_path: Path) -> None:
    data: Any = MADE_UP[name].to_json()
    if name == "a newer version":
        data["version"] += 1
    path = put(tmp_path, data, MADE_UP[name].constants)
    with Spending() as spent, pytest.raises(lower86.ArtifactError) as caught:
        lower86.load(path)
    assert str(path) in caught.value.where
    assert caught.value.fix
    assert not spent.is_too_much, str(spent)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_makes_sense_is_loaded_and_runs(tmp_path: Path) -> None:
    one = program()
    loaded = lower86.load(put(tmp_path, one.to_json(), one.constants))
    (y,) = loaded(np.arange(5, dtype=np.float32))
    assert y.tolist() == [0, 1, 2, 3, 4]


LEAVES = {name: one for name, (one, _) in OUTSIDE.items()} | {
    name: packing(*slots) for name, (slots, match) in PACKS.items() if "constant" not in match and "input" not in match
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_leaves_its_buffers_is_not_run(name: str, tmp_path: Path) -> None:
    one = LEAVES[name]
    path = put(tmp_path, one.to_json(), one.constants)
    with Spending() as spent:
        loaded = lower86.load(path)
        with pytest.raises(lower86.ArtifactError):
            loaded(np.zeros(10, np.float32))
    assert not spent.is_too_much, str(spent)


def test_of_fixed_sizes_that_is_known_at_once(tmp_path: Path) -> None:
    fixed = [dataclasses.replace(value, shape=(10,), offset=0) for value in copying(WHOLE).values]
    one = copying(WHOLE, step(dims=(11,)), dims=(), values=tuple(fixed), arena_bytes=64)
    with pytest.raises(lower86.ArtifactError, match="reads bytes 0 to 44 of value 0"):
        lower86.load(put(tmp_path, one.to_json(), ()))


@pytest.mark.parametrize("size", [2**45, 2**36])
def test_gigantic_memory_is_refused_before_it_is_asked_for(size: int, tmp_path: Path) -> None:
    one = copying(WHOLE, step(), arena_bytes=size)
    limits = Limits(1 << 30) if size < 2**40 else None
    with Spending() as spent:
        loaded = lower86.load(put(tmp_path, one.to_json(), ()), limits=limits)
        with pytest.raises(lower86.InputError, match="MiB of memory"):
            loaded(np.zeros(10, np.float32))
    assert not spent.is_too_much, str(spent)
    fixed = [dataclasses.replace(value, shape=(10,), offset=0) for value in one.values]
    one = dataclasses.replace(one, dims=(), values=tuple(fixed), steps=(step(dims=(10,)),))
    with Spending() as spent, pytest.raises(lower86.InputError, match="MiB of memory"):
        lower86.load(put(tmp_path, one.to_json(), ()), limits=limits)
    assert not spent.is_too_much, str(spent)


def test_weights_beyond_the_limit_are_not_packed(tmp_path: Path) -> None:
    one = program()
    path = put(tmp_path, one.to_json(), one.constants)
    with pytest.raises(lower86.InputError, match="its constants would take"):
        lower86.load(path, limits=Limits(1000))
