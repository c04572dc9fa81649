"""The container: a file of the `safetensors` format, written and read by code of our own.

    8 bytes     n, little endian
    n bytes     a JSON object: "__metadata__" (strings by name), and for each tensor its dtype, shape and place
    the rest    the tensors' bytes, each directly after another

The metadata's entry "sha256" is the hash of the whole file with zeros in its own place. It tells a damaged file from a
good one, and nothing about who wrote it: everything else is checked as if it were made up.

Why not the library of that name: NumPy has no bf16, the library writes metadata in a random order and cannot hash what
it writes; and it reads through a mapping, whose bytes can change between a check and their use. What is used here is
what was hashed: it is read once, into memory of our own, aligned as machines like it. The library reads these files.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..counted import counted
from ..errors import ArtifactError
from ..program.dtypes import DTYPES
from ..runtime.packing import ALIGNMENT, aligned
from .hashing import Hashing
from .strict_json import SAVE_AGAIN, parse

MOST_HEADER_BYTES = 8 << 20
"""ResNet-50 has a hundredth of it."""
MOST_TENSORS = 1 << 14
METADATA = "__metadata__"
HASH = "sha256"
_UNHASHED = "0" * 64
_PREFIX = 8
_OWN_BYTES = 1 << 17
_AT_ONCE = 2 << 20
"""Bytes of a read: so many are still in the CPU's cache when they are hashed."""

CODES: Mapping[str, str] = {
    "f32": "F32", "f64": "F64", "bf16": "BF16", "f16": "F16", "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8",
    "u8": "U8", "u16": "U16", "bool": "BOOL",
}  # fmt: skip
"""The format's names of dtypes; NumPy holds the bits of bf16 as uint16."""
_NUMPY = {CODES[name]: dtype.numpy for name, dtype in DTYPES.items()} | {"U16": np.dtype("uint16")}


@dataclass(frozen=True)
class Stored:
    """A tensor: its dtype by short name (see `CODES`), and its elements, contiguous."""

    dtype: str
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Contents:
    """What a file holds: metadata and tensors by name, 64-byte aligned, and how many bytes it has."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Stored]
    size: int
    digest: str


def seal(header: Any, data: bytes) -> bytes:
    """A file of any header and any data, its hash right where the header has a place for one.

    Args:
        header: what the JSON header says, or the JSON text itself, as str or bytes. In an object whose "__metadata__"
            is an object, the hash is filled in; in a text, in place of 64 zeros.
        data: the bytes after it.
    """
    if isinstance(header, dict) and isinstance(header.get(METADATA), dict):
        header = {**header, METADATA: {**header[METADATA], HASH: _UNHASHED}}
    text = header if isinstance(header, (str, bytes)) else json.dumps(header, separators=(",", ":"))
    return _sealed(text.encode() if isinstance(text, str) else text, [data]) + data


def _sealed(header: bytes, data: Sequence[bytes | memoryview]) -> bytes:
    """Length and header, with the hash of everything in place of the first 64 zeros."""
    digest = hashlib.sha256(len(header).to_bytes(_PREFIX, "little") + header)
    for part in data:
        digest.update(part)
    header = header.replace(_UNHASHED.encode(), digest.hexdigest().encode(), 1)
    return len(header).to_bytes(_PREFIX, "little") + header


def write(file: BinaryIO, metadata: Mapping[str, str], tensors: Mapping[str, Stored]) -> int:
    """Writes a whole file; gives its size in bytes. Larger elements come first, so that all lie on their multiples."""
    order = sorted(tensors, key=lambda name: -tensors[name].array.itemsize)
    entries: dict[str, Any] = {METADATA: {HASH: _UNHASHED, **metadata}}
    places, at = {}, 0
    for name in order:
        places[name] = [at, at + tensors[name].array.nbytes]
        at = places[name][1]
    for name, stored in tensors.items():
        shape = list(stored.array.shape)
        entries[name] = {"dtype": CODES[stored.dtype], "shape": shape, "data_offsets": places[name]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(_PREFIX + len(header)) % ALIGNMENT)
    data = [np.ascontiguousarray(tensors[name].array).reshape(-1).view(np.uint8).data for name in order]
    head = _sealed(header, data)
    file.write(head)
    for part in data:
        file.write(part)
    return len(head) + at


def read(path: str | os.PathLike[str]) -> Contents:
    """What a file holds, the container checked. Raises ArtifactError, which says what is wrong, and where."""
    with reading(path) as contents:
        return contents


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[Contents]:
    """As `read`, but its hash is computed beside what is done within, and checked at the end.

    Nothing that is made of the contents may be used or changed before. If the hash is wrong, that is what is said,
    whatever else went wrong.
    """
    name = os.fspath(path)
    contents, hashing = _taken(name)
    try:
        yield contents
    finally:
        if hashing.digest() != contents.digest:
            raise _damaged("its hash does not match what it holds", f"{name}, {METADATA}.{HASH}") from None


def _taken(name: str) -> tuple[Contents, Hashing]:
    try:
        with _opened(name) as (file, size), Hashing() as hashing:
            return _read(file, size, name, hashing), hashing
    except OSError as problem:
        raise ArtifactError(
            f"{name} cannot be read: {problem.strerror or problem}",
            where="lower86.load",
            fix="pass the path of a file that lower86.save has written",
        ) from problem
    except MemoryError as problem:
        raise _damaged(f"its tensors do not fit into memory ({problem})", name) from problem


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int]]:
    # Without waiting: the path may be that of a pipe.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file, status.st_size


def _read(file: Any, size: int, name: str, hashing: Hashing) -> Contents:
    prefix = _exactly(file, bytearray(min(_PREFIX, size)), name)
    if prefix.startswith(b"PK\x03\x04"):
        raise ArtifactError(
            "it is a zip archive, as a .pt2 file is", where=name, fix="lower it first: lower86 lower MODEL.pt2 -o OUT"
        )
    length = int.from_bytes(prefix, "little")
    if size < _PREFIX + 2 or length > size - _PREFIX or length < 2:
        raise _damaged(f"it is no safetensors file, or cut short: {size} bytes, header of {length}", name)
    if length > MOST_HEADER_BYTES:
        raise _damaged(f"its header has {length} bytes, more than {MOST_HEADER_BYTES}", name)
    header = bytes(_exactly(file, bytearray(length), name))
    if not header.startswith(b"{"):
        raise _damaged("it is no safetensors file: its header is no JSON object", name)
    entries = parse(header, f"{name}, header")
    metadata = _metadata(entries, name)
    rest = size - _PREFIX - length
    if len(entries) > MOST_TENSORS:
        raise _damaged(f"it has {len(entries)} tensors, more than {MOST_TENSORS}", name)
    described = [_described(key, entries[key], f"{name}, tensor {key!r}") for key in entries if key != METADATA]
    _check_places(described, rest, name)
    if rest > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise _damaged(f"its tensors take {rest} bytes, more than this machine's memory", name)
    hashing.add(bytes(prefix) + header.replace(metadata[HASH].encode(), _UNHASHED.encode(), 1))
    tensors = {}
    # Read in the order of the file, whatever order the header has. What is large has memory of its own, because it is
    # given back once it is packed.
    shared, at = aligned(sum(_rounded(one.size) for one in described if one.size < _OWN_BYTES)), 0
    for one in sorted(described, key=lambda one: (one.begin, one.size)):
        if one.size < _OWN_BYTES:
            place = shared[at : at + one.size]
            at += _rounded(one.size)
        else:
            place = aligned(one.size)
        _exactly(file, place, name, hashing)
        if one.dtype == "bool" and one.size and place.max() > 1:
            raise _damaged("a bool that is neither 0 nor 1", f"{name}, tensor {one.name!r}")
        tensors[one.name] = Stored(one.dtype, place.view(_NUMPY[CODES[one.dtype]]).reshape(one.shape))
    return Contents(metadata, {one.name: tensors[one.name] for one in described}, size, metadata[HASH])


def _exactly(file: Any, into: Any, name: str, hashing: Hashing | None = None) -> Any:
    """Fills `into` from the file; what has come is hashed while the rest comes."""
    view, done = memoryview(into).cast("B"), 0
    while done < len(view):
        count = file.readinto(view[done : done + _AT_ONCE])
        if not count:
            raise _damaged(f"it ends {counted(len(view) - done, 'byte')} early", name)
        if hashing is not None:
            hashing.add(view[done : done + count])
        done += count
    return into


def _metadata(entries: dict[str, Any], name: str) -> dict[str, str]:
    metadata = entries.get(METADATA)
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged("it has no metadata: lower86.save has not written it", f"{name}, {METADATA}")
    digest = metadata.get(HASH, "")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise _damaged("it has no hash: lower86.save has not written it", f"{name}, {METADATA}.{HASH}")
    return metadata


@dataclass(frozen=True)
class _Described:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int


_SHORT = {code: name for name, code in CODES.items()}
_MOST_DIMS = 64
"""NumPy's own limit."""


def _described(name: str, entry: Any, where: str) -> _Described:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged("a tensor needs dtype, shape and data_offsets, and nothing else", where)
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _SHORT:
        raise _damaged(f"unknown dtype {code!r:.40}", f"{where}, dtype")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMS:
        raise _damaged("a shape is a list of at most 64 whole numbers from 0 to 2^62", f"{where}, shape")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged("offsets are two whole numbers, the second no less", f"{where}, data_offsets")
    size = math.prod(shape) * _NUMPY[code].itemsize
    if size != offsets[1] - offsets[0]:
        raise _damaged(
            f"{offsets[1] - offsets[0]} bytes for a {code} of {shape}, which has {size}", f"{where}, data_offsets"
        )
    if size == 0 and max(shape) > _MOST_EMPTY:
        raise _damaged("an empty tensor of absurd shape", f"{where}, shape")
    return _Described(name, _SHORT[code], tuple(shape), offsets[0], size)


_MOST_EMPTY = 1 << 20
"""A dim beside one of 0: NumPy refuses shapes whose strides would overflow."""


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n <= 1 << 62 for n in numbers)


def _check_places(described: Sequence[_Described], rest: int, name: str) -> None:
    """Each tensor's bytes begin where the ones before end: no overlap, no gap, none beyond the end."""
    at = 0
    for one in sorted(described, key=lambda one: (one.begin, one.size)):
        if one.begin != at:
            kind = "overlaps the one before" if one.begin < at else f"leaves a gap of {one.begin - at} bytes"
            raise _damaged(f"a tensor that {kind}", f"{name}, tensor {one.name!r}, data_offsets")
        at += one.size
    if at != rest:
        short = "is cut short or has a tensor beyond its end" if at > rest else "goes on after its last tensor"
        raise _damaged(f"the file {short}: {rest} bytes of data, {at} in the header", name)


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _damaged(problem: str, where: str) -> ArtifactError:
    return ArtifactError(problem, where=where, fix=SAVE_AGAIN)
