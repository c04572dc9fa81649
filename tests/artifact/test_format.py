"""The container: what is written is read back, by the format's library too; whatever is wrong is refused by name."""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lower86.artifact import seal
from lower86.artifact.format import MOST_HEADER_BYTES, Stored, read, reading, write
from lower86.errors import ArtifactError
from lower86.program.dtypes import DTYPES
from tests.harness import examples

TENSORS = {
    **{name: Stored(name, (np.arange(6) % 2).astype(dtype.numpy).reshape(2, 3)) for name, dtype in DTYPES.items()},
    "u16": Stored("u16", np.arange(5, dtype=np.uint16)),
    "none": Stored("f32", np.zeros((0, 7), np.float32)),
    "number": Stored("f64", np.array(2.5)),
}


def written() -> bytes:
    file = io.BytesIO()
    assert write(file, {"a": "text", "quotes": '"\\"∞'}, TENSORS) == file.tell()
    return file.getvalue()


def put(folder: Path, data: bytes) -> Path:
    path = folder / "file.safetensors"
    path.write_bytes(data)
    return path


def test_round_trip(tmp_path: Path) -> None:
    contents = read(put(tmp_path, written()))
    assert dict(contents.metadata) == {"sha256": contents.digest, "a": "text", "quotes": '"\\"∞'}
    assert list(contents.tensors) == list(TENSORS)
    for name, stored in TENSORS.items():
        found = contents.tensors[name]
        assert found.dtype == stored.dtype
        assert (found.array.dtype, found.array.shape) == (stored.array.dtype, stored.array.shape)
        assert found.array.tobytes() == stored.array.tobytes()
        assert found.array.ctypes.data % 64 == 0
    assert written() == written()


def test_the_library_reads_it(tmp_path: Path) -> None:
    path = put(tmp_path, written())
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["a"] == "text"
    tensors = load_file(path)
    assert sorted(tensors) == sorted(TENSORS)
    for name, stored in TENSORS.items():
        flat = tensors[name].contiguous().reshape(-1)
        assert flat.view(torch.uint8).numpy().tobytes() == stored.array.tobytes(), name
    assert tensors["bf16"].dtype == torch.bfloat16


def test_every_byte_counts(tmp_path: Path) -> None:
    """Whichever is changed, or left out at the end, the file is refused."""
    good = written()
    for place in range(0, len(good), 7):
        changed = bytearray(good)
        changed[place] ^= 0x10
        with pytest.raises(ArtifactError):
            read(put(tmp_path, bytes(changed)))
    for length in (*range(20), *range(20, len(good), 61), len(good) - 1):
        with pytest.raises(ArtifactError, match=r"cut short|early|no safetensors"):
            read(put(tmp_path, good[:length]))
    with pytest.raises(ArtifactError, match="goes on after its last tensor"):
        read(put(tmp_path, good + b"\0"))


def test_an_archive_is_no_damaged_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model.json", "{}")
    with pytest.raises(ArtifactError, match="it is a zip archive") as caught:
        read(tmp_path / "model.pt2")
    assert "lower86 lower" in caught.value.fix


def test_a_wrong_hash_is_what_is_said_whatever_else_goes_wrong(tmp_path: Path) -> None:
    good = written()
    path = put(tmp_path, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="hash does not match"), reading(path) as contents:
        assert contents.tensors
    with pytest.raises(ArtifactError, match="hash does not match"), reading(path):
        raise KeyError("what the damage led to")
    with pytest.raises(KeyError), reading(put(tmp_path, good)):
        raise KeyError


HEADER: dict[str, Any] = {
    "__metadata__": {"name": "text"},
    "0": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "1": {"dtype": "I8", "shape": [8], "data_offsets": [24, 32]},
}
DATA = bytes(range(32))


def test_sealed_files_are_read(tmp_path: Path) -> None:
    for header in (HEADER, json.dumps({**HEADER, "__metadata__": {"sha256": "0" * 64}}, indent=1)):
        contents = read(put(tmp_path, seal(header, DATA)))
        assert contents.tensors["1"].array.tolist() == list(range(24, 32))
    assert "sha256" not in HEADER["__metadata__"]


def changed(**entry: Any) -> Callable[[dict[str, Any]], Any]:
    """The header with fields of tensor 0 replaced."""

    def change(header: dict[str, Any]) -> dict[str, Any]:
        header["0"] |= entry
        return header

    return change


def without(*path: str) -> Callable[[dict[str, Any]], Any]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        inner = header
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return header

    return change


def text(old: str, new: str) -> Callable[[dict[str, Any]], Any]:
    """The header's text with a part replaced."""

    def change(header: dict[str, Any]) -> str:
        header["__metadata__"]["sha256"] = "0" * 64
        plain = json.dumps(header)
        assert old in plain
        return plain.replace(old, new, 1)

    return change


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no metadata": (without("__metadata__"), "no metadata"),
    "metadata that is a list": (lambda h: {**h, "__metadata__": []}, "no metadata"),
    "metadata of numbers": (lambda h: {**h, "__metadata__": {"a": 1}}, "no metadata"),
    "no hash": (lambda h: json.dumps(h), "no hash"),
    "a hash that is none": (lambda h: json.dumps({**h, "__metadata__": {"sha256": "é" * 64}}), "no hash"),
    "another hash": (lambda h: json.dumps({**h, "__metadata__": {"sha256": "a" * 64}}), "hash does not match"),
    "a list": (lambda h: [], "no JSON object|no metadata"),
    "a list of objects": (lambda h: [h], "no JSON object"),
    "no JSON": (lambda h: "{" + "x" * 40, "JSON holds"),
    "bytes that are no text": (lambda h: b'{"\xff\xfe": 1}', "not UTF-8"),
    "half a character": (text('"text"', '"\\ud800"'), "half a character"),
    "a key twice": (text('"1"', '"0"'), "key '0' twice"),
    "a key twice within": (text('"shape": [2, 3]', '"shape": [2, 3], "shape": [2, 3]'), "key 'shape' twice"),
    "NaN": (text("[2, 3]", "[NaN, 3]"), "literal NaN"),
    "infinity": (text("[2, 3]", "[-Infinity, 3]"), "literal -Infinity"),
    "a number beyond floats": (text("[2, 3]", "[1e999, 3]"), "too large"),
    "a number of many digits": (text("[2, 3]", f"[{'9' * 5000}, 3]"), "JSON holds|shape"),
    "deep lists": (lambda h: '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested more than 64"),
    "deep objects": (lambda h: '{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than 64"),
    "depth after a string": (lambda h: '{"]\\"]\\\\":' + "[" * 200 + "]" * 200 + "}", "nested more than 64"),
    "many values": (lambda h: '{"a":[' + "[]," * 300_000 + "1]}", "too many values"),
    "tensors without end": (
        lambda h: {**h, **{str(n): {"dtype": "I8", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}},
        "20001 tensors, more than",
    ),
    "a dtype nobody knows": (changed(dtype="F33"), "unknown dtype 'F33'"),
    "a dtype that is used elsewhere": (changed(dtype="F8_E4M3"), "unknown dtype"),
    "a dtype that is a number": (changed(dtype=32), "unknown dtype 32"),
    "a dtype of another size": (changed(dtype="F64"), r"24 bytes for a F64 of \[2, 3\], which has 48"),
    "a shape of another size": (changed(shape=[2, 4]), "24 bytes for a F32"),
    "a negative size": (changed(shape=[-2, -3]), "a shape is a list"),
    "a size that is a float": (changed(shape=[2.0, 3]), "a shape is a list"),
    "a size that is a bool": (changed(shape=[True, 6]), "a shape is a list"),
    "no list of sizes": (changed(shape=6), "a shape is a list"),
    "many dims": (changed(shape=[6] + [1] * 70), "a shape is a list"),
    "sizes that overflow 64 bits": (changed(shape=[1 << 62, 1 << 62]), "24 bytes for a F32"),
    "sizes that overflow to the right number": (changed(shape=[1 << 32, (1 << 32) + 6]), "24 bytes for a F32"),
    "nothing of absurd shape": (changed(shape=[0, 1 << 50, 1 << 50], data_offsets=[0, 0]), "absurd"),
    "offsets that go back": (changed(data_offsets=[24, 0]), "offsets are two"),
    "three offsets": (changed(data_offsets=[0, 24, 24]), "offsets are two"),
    "negative offsets": (changed(data_offsets=[-24, 0]), "offsets are two"),
    "offsets that are strings": (changed(data_offsets=["0", "24"]), "offsets are two"),
    "overlap": (changed(data_offsets=[8, 32]), "gap|overlaps"),
    "the same place": (lambda h: {**h, "1": {"dtype": "I8", "shape": [24], "data_offsets": [0, 24]}}, "overlaps"),
    "a gap": (lambda h: {**h, "1": {"dtype": "I8", "shape": [4], "data_offsets": [28, 32]}}, "gap of 4 bytes"),
    "beyond the end": (
        lambda h: {**h, "1": {"dtype": "I8", "shape": [1 << 40], "data_offsets": [24, 24 + (1 << 40)]}},
        "cut short or has a tensor beyond its end",
    ),
    "less than there is": (without("1"), "goes on after its last tensor"),
    "a field too few": (without("0", "shape"), "needs dtype, shape and data_offsets"),
    "a field too many": (changed(strides=[3, 1]), "needs dtype, shape and data_offsets"),
    "a tensor that is a list": (lambda h: {**h, "0": [1, 2]}, "needs dtype, shape and data_offsets"),
    "a bool that is neither": (
        lambda h: {**h, "1": {"dtype": "BOOL", "shape": [8], "data_offsets": [24, 32]}}, "neither 0 nor 1"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    change, message = WRONG[name]
    path = put(tmp_path, seal(change(copy.deepcopy(HEADER)), DATA))
    with pytest.raises(ArtifactError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.where
    assert caught.value.fix


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["F32", "I8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "BOOL", "F64"]) | VALUES,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | VALUES,
        "data_offsets": st.lists(st.integers(-1, 33), min_size=2, max_size=2) | VALUES,
    }
)


@examples(300)
@given(header=VALUES | st.dictionaries(st.sampled_from("0123"), ENTRIES | VALUES), data=st.binary(max_size=32))
def test_any_header(header: Any, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read or refused, nothing else."""
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    given_metadata = header | {"__metadata__": {}} if isinstance(header, dict) else header
    path.write_bytes(seal(given_metadata, data))
    try:
        contents = read(path)
    except ArtifactError:
        return
    assert sum(one.array.nbytes for one in contents.tensors.values()) == len(data)


@pytest.mark.parametrize("length", [0, 1, MOST_HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1])
def test_headers_of_absurd_length(length: int, tmp_path: Path) -> None:
    data = length.to_bytes(8, "little") + b"{}" + bytes(100)
    with pytest.raises(ArtifactError, match=f"header of {length}"):
        read(put(tmp_path, data))


def test_a_header_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    with path.open("wb") as file:
        file.write((MOST_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MOST_HEADER_BYTES + 100)
    with pytest.raises(ArtifactError, match="more than"):
        read(path)


def test_a_file_of_nothing_larger_than_memory(tmp_path: Path) -> None:
    """A sparse file has any size and takes no room: refused before memory is asked for."""
    size = 1 << 43
    head = seal({"__metadata__": {}, "0": {"dtype": "I8", "shape": [size], "data_offsets": [0, size]}}, b"")
    path = put(tmp_path, head)
    try:
        os.truncate(path, len(head) + size)
    except OSError:
        path = put(tmp_path, head)  # this file system has no files as large: then it is refused for its size
    with pytest.raises(ArtifactError, match=r"more than this machine's memory|cut short"):
        read(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "missing", "No such file"),
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(ArtifactError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
