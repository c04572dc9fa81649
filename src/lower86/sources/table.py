"""Tables: the columns of a .parquet file are a model's inputs by name, or one of them is texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, first_line
from ..needed import needed
from .batches import fitted, rows_of, sizes_of
from .model import ModelSource
from .naming import Input
from .texts import tokenized

if TYPE_CHECKING:
    from .data import DataOptions


def from_table(
    path: Path, source: ModelSource, options: DataOptions
) -> tuple[Iterator[dict[str, Tensor]], tuple[str, ...]]:
    """The rows of a .parquet file. Raises InputError for columns that are not the model's inputs."""
    parquet = needed("pyarrow.parquet", "reading .parquet", "cli")
    try:
        file = parquet.ParquetFile(path)
    except Exception as problem:  # OSError, and pyarrow's own
        raise InputError(
            f"{path} cannot be read: {first_line(problem)}", where="data", fix="see the error"
        ) from problem
    columns = list(file.schema_arrow.names)
    text = _text_column(file.schema_arrow, source, options.column)
    if text is not None:
        return tokenized((str(row[text] or "") for row in _rows(file, [text], path)), source, options), ()
    names = [one.name for one in source.inputs]
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(
            f"column {missing[0]} is missing; the file has {', '.join(columns)}",
            where="data",
            fix=f"the model takes {', '.join(names)}: give a column for each",
        )
    return _calls(_rows(file, names, path), source, options.batch), ()


def _text_column(schema: Any, source: ModelSource, wanted: str | None) -> str | None:
    """The column of texts; None where the columns are the inputs themselves."""
    names = list(schema.names)
    if wanted is not None:
        if wanted not in names:
            raise InputError(
                f"there is no column {wanted!r}", where="--text-column", fix=f"the file has {', '.join(names)}"
            )
        return wanted
    if source.tokenize is None or all(one.name in names for one in source.inputs):
        return None
    texts = [name for name in names if str(schema.field(name).type) in ("string", "large_string", "string_view")]
    chosen = ["text"] if "text" in texts else texts
    if len(chosen) != 1:
        raise InputError(
            f"the columns of texts are {', '.join(texts) or 'none'}", where="data", fix="choose one by --text-column"
        )
    return chosen[0]


def _rows(file: Any, columns: list[str], path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        for batch in file.iter_batches(batch_size=64, columns=columns):
            yield from batch.to_pylist()
    except Exception as problem:  # pyarrow's own, of a damaged file
        raise InputError(
            f"{path} cannot be read: {first_line(problem)}", where="data", fix="see the error"
        ) from problem


def _calls(table: Iterator[Mapping[str, Any]], source: ModelSource, batch: int | None) -> Iterator[dict[str, Tensor]]:
    rows = rows_of(source.inputs[0], batch)
    number = 0
    while some := list(islice(table, rows)):
        if len(some) < rows and source.inputs[0].example is not None and not source.inputs[0].rows_vary:
            return
        where = f"data, item {number}"
        yield {one.name: fitted(one, _stacked(one, some, where), where) for one in source.inputs}
        number += 1


def _stacked(one: Input, rows: list[Mapping[str, Any]], where: str) -> Tensor:
    try:
        array = np.array([row[one.name] for row in rows])
        if array.dtype.kind not in "fiub":
            raise ValueError(f"it holds {array.dtype}")
    except ValueError as problem:  # lists of several lengths, missing values, texts
        raise InputError(
            f"column {one.name} is no array of numbers in these rows: {first_line(problem)}",
            where=where,
            fix="give lists of one length; rows of several lengths are calls of their own, with --batch 1",
        ) from problem
    tensor = torch.from_numpy(array)
    if array.dtype == np.float64 and one.example is None:
        tensor = tensor.float()  # Python's numbers have no other width
    if one.example is None or tensor.dim() == one.example.dim():
        return tensor
    inner = [-1 if axis in one.open_axes else size for axis, size in enumerate(one.example.shape)][1:]
    try:
        return tensor.reshape(len(rows), *inner)  # a row of more axes may be written flat
    except RuntimeError as problem:
        raise InputError(
            f"column {one.name} gives {list(tensor.shape)}, the model takes {sizes_of(one)}", where=where
        ) from problem
