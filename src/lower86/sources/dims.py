"""`INPUT:AXIS=DIM` on the command line: which axes of a model's inputs vary, as torch.export takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.export import Dim
from torch.utils import _pytree as pytree

from ..errors import InputError
from .model import ModelSource
from .naming import leaf_name, named_arguments

_MOST = 2**31 - 1
FORM = "INPUT:AXIS=DIM or INPUT:AXIS=DIM:MOST"


def with_dims(source: ModelSource, wanted: Sequence[str]) -> ModelSource:
    """The source with these axes open, and no others; axes that name one dim have equal sizes.

    Raises InputError for inputs and axes that there are not, for what is not of that form, and for two limits of one
    dim or two dims of one axis.
    """
    if not wanted:
        return source
    limits: dict[str, tuple[int, str]] = {}
    axes: dict[str, dict[int, tuple[str, str]]] = {}
    for text in wanted:
        name, axis, dim, most = _parted(text)
        known = next((one for one in source.inputs if one.name == name), None)
        names = ", ".join(one.name for one in source.inputs)
        if known is None:
            raise InputError(f"there is no input {name!r}", where="--dynamic", fix=f"the model takes {names}")
        if known.example is not None and axis >= known.example.dim():
            raise InputError(f"{name} has {known.example.dim()} axes, counted from 0", where=f"--dynamic {text}")
        if most is not None:
            limit, told = limits.setdefault(dim, (most, text))
            if limit != most:
                raise InputError(
                    f"{dim} is at most {limit} by {told}, and {most} by {text}", where="--dynamic", fix="give one limit"
                )
        before, told = axes.setdefault(name, {}).setdefault(axis, (dim, text))
        if before != dim:
            raise InputError(
                f"axis {axis} of {name} is {told} and {text}", where="--dynamic", fix="give one of the two"
            )
    named = {dim for pairs in axes.values() for dim, _ in pairs.values()}
    dims = {dim: Dim(dim, max=limits[dim][0] if dim in limits else None) for dim in named}
    found = {name: {axis: dims[dim] for axis, (dim, _) in pairs.items()} for name, pairs in axes.items()}
    if source.example is None:
        return source.with_dims({one.name: found.get(one.name) for one in source.inputs})
    shapes: dict[str, Any] = {}
    for name, value in named_arguments(source.model, source.example).items():
        pairs, spec = pytree.tree_flatten_with_path(value)
        leaves = [found.get(leaf_name(source.model, name, path)) if isinstance(leaf, Tensor) else None
                  for path, leaf in pairs]  # fmt: skip
        shapes[name] = pytree.tree_unflatten(leaves, spec)
    return source.with_dims(shapes)


def _parted(text: str) -> tuple[str, int, str, int | None]:
    place, sign, rest = text.partition("=")
    name, _, axis = place.rpartition(":")
    dim, colon, most = rest.partition(":")
    limited = not colon or (most.isdecimal() and int(most) > 0)
    if not (name and sign and axis.isdecimal() and dim.isidentifier() and limited):
        raise InputError(f"{text!r} is not {FORM}", where="--dynamic", fix="give such as x:0=batch or ids:1=length:512")
    if colon and not 2 <= int(most) <= _MOST:
        raise InputError(
            f"a dim of at most {most} is none that varies" if int(most) < 2 else f"{most} is more than {_MOST}",
            where=f"--dynamic {text}",
            fix="give a limit from 2 up, or leave it out",
        )
    return name, int(axis), dim, int(most) if colon else None
