"""Texts as calls: a line of a file is an item, which the tokenizer of the model's folder makes tensors of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import InputError
from .batches import fitted, rows_of
from .model import ModelSource

if TYPE_CHECKING:
    from .data import DataOptions


def from_texts(
    path: Path, source: ModelSource, options: DataOptions
) -> tuple[Iterator[dict[str, Tensor]], tuple[str, ...]]:
    """The lines of a UTF-8 file that are not blank. Raises InputError for other files, and without a tokenizer."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        said = getattr(problem, "strerror", None) or "it is not UTF-8"
        raise InputError(f"{path} cannot be read: {said}", where="data", fix="give a text file") from problem
    return tokenized([line for line in lines if line.strip()], source, options), ()


def tokenized(texts: Iterable[str], source: ModelSource, options: DataOptions) -> Iterator[dict[str, Tensor]]:
    """The tensors of as many texts at once as a call takes. Raises InputError for a model without a tokenizer."""
    if source.tokenize is None:
        raise InputError(
            "texts take a tokenizer, and the model comes without one",
            where="data",
            fix="give a folder of Hugging Face's with its tokenizer's files as the model, or arrays as data",
        )
    return _calls(iter(texts), source, rows_of(source.inputs[0], options.batch))


def _calls(texts: Iterator[str], source: ModelSource, rows: int) -> Iterator[dict[str, Tensor]]:
    assert source.tokenize is not None
    number = 0
    while some := list(islice(texts, rows)):
        if len(some) < rows and not source.inputs[0].rows_vary:
            return  # a model of fixed sizes takes whole batches
        found = source.tokenize(some)
        yield {one.name: fitted(one, found[one.name], f"data, item {number}") for one in source.inputs}
        number += 1
