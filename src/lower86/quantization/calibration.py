"""The inputs to calibrate with: any iterable, made into calls of the model, each checked before work begins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ..errors import InputError, Lower86Error, first_line
from ..graph.pytrees import signature_of


@dataclass(frozen=True)
class Call:
    """The arguments of one call of the model."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def call_of(item: object, where: str) -> Call:
    """A tensor is the one argument, a tuple or a list all of them, a dict those by name."""
    if isinstance(item, Tensor):
        return Call((item,), {})
    if isinstance(item, Mapping) and all(isinstance(name, str) for name in item):
        return Call((), dict(item))
    if isinstance(item, (tuple, list)):
        return Call(tuple(item), {})
    raise InputError(
        f"a {type(item).__name__} is no input of a model",
        where=where,
        fix="give tensors, tuples of arguments or dicts of arguments by name, or transform= to make such of it",
    )


def gather(calibration: Iterable[Any], transform: Callable[[Any], Any] | None, subset_size: int) -> list[Call]:
    """The first `subset_size` items as calls. Raises InputError for an empty set, and for what is no input."""
    if isinstance(subset_size, bool) or not isinstance(subset_size, int) or subset_size < 1:
        raise Lower86Error(f"subset_size={subset_size!r}", where="quantize", fix="give a number of at least 1")
    if isinstance(calibration, (Tensor, str, Mapping)) or not isinstance(calibration, Iterable):
        raise InputError(
            f"calibration is a {type(calibration).__name__}, not a collection of inputs",
            where="calibration",
            fix="give a list of inputs, a generator or a DataLoader; [x] for one input",
        )
    if transform is not None and not callable(transform):
        raise Lower86Error(
            f"transform is a {type(transform).__name__}, not a function",
            where="transform",
            fix="give a function of one item of calibration, or leave it out",
        )
    calls: list[Call] = []
    for number, item in enumerate(islice(_guarded(calibration), subset_size)):
        where = f"calibration, item {number}"
        try:
            given = transform(item) if transform is not None else item
        except Exception as problem:  # the caller's own function
            raise InputError(
                f"transform failed: {type(problem).__name__}: {problem}", where=where, fix="see the error's cause"
            ) from problem
        calls.append(call_of(given, where))
    if not calls:
        raise InputError(
            "the calibration set is empty",
            where="calibration",
            fix="give at least one input; an iterator that was used up gives none",
        )
    return calls


def _guarded(calibration: Iterable[Any]) -> Iterator[Any]:
    """The items. Raises InputError where the caller's own iterator fails."""
    number = 0
    try:
        for item in calibration:
            yield item
            number += 1
    except Exception as problem:  # whatever a generator or a DataLoader raises
        raise InputError(
            f"the calibration set failed: {type(problem).__name__}: {first_line(problem)}",
            where=f"calibration, item {number}",
            fix="see the error's cause; it was raised by what gives the items",
        ) from problem


def check_arguments(model: torch.nn.Module, call: Call, where: str) -> None:
    """Raises InputError for arguments that the model's `forward` does not take, before it is traced."""
    try:
        inspect.signature(model.forward).bind(*call.args, **call.kwargs)
    except TypeError as problem:
        raise InputError(
            f"the model cannot be called so: {problem}",
            where=where,
            fix="give what the model takes; transform= can take labels off",
        ) from problem
    except ValueError:
        return  # a forward without a signature


def check_calls(graph: GraphModule, calls: Sequence[Call]) -> list[list[Any]]:
    """The flat inputs of all calls. Raises InputError for the first that does not fit the exported graph."""
    fits = checker(graph)
    return [fits(call, f"calibration, item {number}") for number, call in enumerate(calls)]


def checker(graph: GraphModule) -> Callable[[Call, str], list[Any]]:
    """A function that gives a call's flat inputs; it raises InputError, with the place named, if they do not fit."""
    signature = signature_of(graph.graph)
    nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    paths, examples = _paths(signature, len(nodes)), [node.meta.get("val") for node in nodes]

    def fits(call: Call, where: str) -> list[Any]:
        try:
            leaves = signature.flatten(call.args, call.kwargs)
        except InputError as problem:
            raise InputError(
                problem.what, where=where, fix="give what the model takes; transform= can take labels off"
            ) from problem
        for name, example, leaf in zip(paths, examples, leaves, strict=True):
            _check_leaf(leaf, example, f"{where}, input {name}")
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if tensors and not any(tensor.numel() for tensor in tensors):
            raise InputError("it holds no values", where=where, fix="leave empty batches out")
        return leaves

    return fits


def _paths(signature: Any, count: int) -> list[str]:
    """How a caller would name each flat input."""
    tree = pytree.tree_unflatten(list(range(count)), signature.inputs)
    found = []
    for path, _ in pytree.tree_flatten_with_path(tree)[0]:
        which, first, *rest = path
        place: Any = getattr(first, "idx", None)
        named = place is not None and getattr(which, "idx", None) == 0 and place < len(signature.names)
        head = signature.names[place] if named else str(getattr(first, "key", place))
        found.append(head + pytree.keystr(tuple(rest)))
    return found


def _check_leaf(leaf: object, example: object, where: str) -> None:
    if not isinstance(example, Tensor):
        return
    if not isinstance(leaf, Tensor):
        raise InputError(f"a {type(leaf).__name__} in place of a tensor", where=where, fix="give a tensor")
    if leaf.dtype != example.dtype:
        raise InputError(f"it is {leaf.dtype}, the model takes {example.dtype}", where=where, fix="convert it")
    fits = leaf.dim() == example.dim() and all(
        not isinstance(size, int) or size == given for size, given in zip(example.shape, leaf.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join(str(size) if isinstance(size, int) else "any" for size in example.shape)
        raise InputError(
            f"its shape is {list(leaf.shape)}, the model was exported for [{sizes}]",
            where=where,
            fix="give all inputs one shape (a DataLoader's drop_last=True leaves out a smaller last batch), or "
            "say with dynamic_shapes= which dims vary",
        )
    if leaf.device.type != "cpu":
        raise InputError(f"it is on the device {leaf.device}", where=where, fix="move it to the CPU: .cpu()")
    if leaf.is_floating_point() and bool(torch.isnan(leaf).any()):
        raise InputError("it holds NaN", where=where, fix="look at what makes this input, or leave the item out")
