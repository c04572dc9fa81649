"""Whole data sets as arrays by name, cut into calls of a model, each tensor in the dtype that the model takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..counted import counted
from ..errors import InputError
from .naming import Input


def calls_of_arrays(
    arrays: Mapping[str, Tensor], inputs: Sequence[Input], batch: int | None
) -> tuple[Iterator[dict[str, Tensor]], tuple[str, ...]]:
    """The tensors of each call, by name, and notes.

    An array with one axis more than its input has a call at each index of the first; one with as many axes is cut
    along the first into as many rows as a call takes; one of exactly a call's shape is given to every call, if
    another input has several. Raises InputError for names and shapes that do not fit.
    """
    check_names(arrays, inputs)
    parts = {one.name: _cut(one, arrays[one.name], rows_of(one, batch)) for one in inputs}
    counts = {name: len(cut) for name, (cut, _) in parts.items()}
    most = max(counts.values(), default=0)
    uneven = {name: count for name, count in counts.items() if count not in (1, most)}
    if uneven:
        name, count = next(iter(uneven.items()))
        longest = max(counts, key=lambda one: counts[one])
        raise InputError(
            f"{name} is enough for {counted(count, 'call')}, {longest} for {most}",
            where="data",
            fix="give every input as many items",
        )
    notes = tuple(note for _, note in parts.values() if note)

    def calls() -> Iterator[dict[str, Tensor]]:
        for number in range(most):
            chosen = {name: cut[number if counts[name] == most else 0] for name, (cut, _) in parts.items()}
            yield {one.name: fitted(one, chosen[one.name], f"data, item {number}") for one in inputs}

    return calls(), notes[:1]


def check_names(given: Mapping[str, Any], inputs: Sequence[Input]) -> None:
    """Raises InputError unless there is one for each input, and no other."""
    names = [one.name for one in inputs]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise InputError(
                f"there is no input {name!r}; the model takes {', '.join(names)}",
                where="data",
                fix=f"did you mean {near[0]!r}?" if near else "name the arrays as the model's inputs",
            )
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(
            f"input {missing[0]} is missing; the data has {', '.join(given) or 'nothing'}",
            where="data",
            fix=f"the model takes {', '.join(names)}: give an array for each",
        )


def rows_of(one: Input, batch: int | None) -> int:
    """As many rows as a call of the model has. Raises InputError for a batch that it does not admit."""
    fixed = one.example.shape[0] if one.example is not None and one.example.dim() and not one.rows_vary else None
    if fixed is not None and batch is not None and batch != fixed:
        raise InputError(
            f"{counted(batch, 'row')} a call, the model takes {fixed}",
            where="--batch",
            fix="leave it out, or let the rows vary",
        )
    return fixed or batch or 1


def _cut(one: Input, array: Tensor, rows: int) -> tuple[Sequence[Tensor], str]:
    if not array.dim():
        raise InputError(f"{one.name} is a single number", where="data", fix="give it an axis for the items")
    if one.example is not None and array.dim() == one.example.dim() + 1:
        return list(array), ""
    if one.example is not None and array.dim() != one.example.dim():
        raise InputError(
            f"{one.name} has shape {list(array.shape)}; a call of the model takes {sizes_of(one)}",
            where="data",
            fix="give items along the first axis",
        )
    whole, rest = divmod(len(array), rows)
    fixed = one.example is not None and not one.rows_vary
    cut = torch.split(array, rows) if len(array) else ()
    if rest and fixed:
        over = "is" if rest == 1 else f"{rest} are"
        return cut[:whole], f"a call takes {rows} rows: of {len(array)}, the last {over} left out"
    return cut, ""


def fitted(one: Input, tensor: Tensor, where: str) -> Tensor:
    """The tensor in the input's dtype. Raises InputError for another kind of number, or another shape."""
    example = one.example
    if example is None:
        return tensor.contiguous()
    shapes = zip(tensor.shape, example.shape, strict=False)
    fits = tensor.dim() == example.dim() and all(
        given == size or axis in one.open_axes for axis, (given, size) in enumerate(shapes)
    )
    if not fits:
        raise InputError(
            f"{one.name} has shape {list(tensor.shape)}, the model takes {sizes_of(one)}",
            where=where,
            fix="give what the model was exported for",
        )
    return _converted(one.name, tensor, example.dtype, where)


def sizes_of(one: Input) -> str:
    """The shape that an input has, for people."""
    shape = () if one.example is None else one.example.shape
    return f"[{', '.join('any' if axis in one.open_axes else str(size) for axis, size in enumerate(shape))}]"


def _converted(name: str, tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    if tensor.dtype == dtype:
        return tensor.contiguous()
    if dtype == torch.bfloat16 and tensor.dtype == torch.uint16:
        return tensor.contiguous().view(torch.bfloat16)
    if _kind(tensor.dtype) != _kind(dtype):
        raise InputError(
            f"{name} is {_name(tensor.dtype)}, the model takes {_name(dtype)}", where=where, fix="convert the data"
        )
    converted = tensor.to(dtype).contiguous()
    changed = dtype.is_signed != tensor.dtype.is_signed and bool(((converted if dtype.is_signed else tensor) < 0).any())
    if _kind(dtype) == "integer" and (changed or not torch.equal(converted.to(tensor.dtype), tensor)):
        raise InputError(f"{name} holds numbers beyond {_name(dtype)}", where=where, fix="look at the data")
    return converted


def _kind(dtype: torch.dtype) -> str:
    return "bool" if dtype == torch.bool else "float" if dtype.is_floating_point else "integer"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
