"""Data from where it is named, as calls of a model: arrays, tables, texts, pictures, or `module:function`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..errors import InputError, Lower86Error
from .arrays import from_npy, from_npz, from_safetensors
from .batches import calls_of_arrays
from .function import called
from .images import from_images
from .model import ModelSource
from .naming import call_with
from .table import from_table
from .texts import from_texts

FORMS = ".npz, .npy, .safetensors, .parquet, .txt, a folder of pictures, or module:function"


@dataclass(frozen=True)
class DataOptions:
    """What a user says beside the data's name.

    batch: rows of one call, where the model admits any number of them; 1 if left out.
    column: of a table, the texts'.
    mean, std, size: of pictures, in place of what the model's folder says.
    """

    batch: int | None = None
    column: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Data:
    """Calls of a model, each a tuple of arguments or a dict of them by name, made as they are asked for; and notes."""

    calls: Iterable[Any]
    notes: tuple[str, ...] = ()

    def first(self, count: int) -> list[Any]:
        """So many of them. Raises InputError where there is none, or one cannot be made."""
        found = list(islice(self.calls, count))
        if not found:
            raise InputError("the data holds nothing", where="data", fix="give at least one item, or one whole batch")
        return found


Reader = Callable[[Path, ModelSource, DataOptions], tuple[Iterator[Mapping[str, Any]], tuple[str, ...]]]


def load_data(name: str, source: ModelSource, options: DataOptions | None = None) -> Data:
    """The calls that the data of that name makes for the model.

    Raises InputError where there is no such data, and where it does not fit; packages that it needs are named.
    """
    options, path = options or DataOptions(), Path(name)
    if options.batch is not None and options.batch < 1:
        raise InputError(f"{options.batch} rows a call", where="--batch", fix="give a number of at least 1")
    reader = from_images if name and path.is_dir() else _READERS.get(path.suffix.lower())
    if reader is None and ":" in name and not path.exists():
        return Data(_given(name))
    if reader is None:
        what = f"{name} is of no kind that is read" if name and path.exists() else f"there is no data {name}"
        raise InputError(what, where="data", fix=f"give {FORMS}")
    if not path.exists():
        raise InputError(f"{name} cannot be read: No such file or directory", where="data")
    tensors, notes = reader(path, source, options)
    return Data((call_with(source.model, source.example, one) for one in tensors), notes)


def _given(name: str) -> Iterator[Any]:
    items = called(name, "data")
    if isinstance(items, (str, Mapping, torch.Tensor)) or not isinstance(items, Iterable):
        raise InputError(
            f"{name} gives a {type(items).__name__}", where="data", fix="return a list, a generator or a DataLoader"
        )
    iterator = iter(items)
    number = 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Lower86Error:
            raise
        except Exception as problem:  # whatever the user's code raises
            raise InputError(
                f"{name} failed at item {number}: {type(problem).__name__}: {problem}",
                where="data",
                fix="--debug shows where",
            ) from problem
        number += 1
        yield pytree.tree_map(_tensor, item)


def _tensor(leaf: Any) -> Any:
    return torch.from_numpy(leaf) if type(leaf).__module__ == "numpy" and hasattr(leaf, "__array_interface__") else leaf


def _arrays(read: Callable[[Path, ModelSource], Mapping[str, Any]]) -> Reader:
    def reader(
        path: Path, source: ModelSource, options: DataOptions
    ) -> tuple[Iterator[Mapping[str, Any]], tuple[str, ...]]:
        return calls_of_arrays(read(path, source), source.inputs, options.batch)

    return reader


_READERS: Mapping[str, Reader] = {
    ".npz": _arrays(from_npz),
    ".npy": _arrays(from_npy),
    ".safetensors": _arrays(from_safetensors),
    ".parquet": from_table,
    ".txt": from_texts,
}
