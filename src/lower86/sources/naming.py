"""The tensors of a call by name, as a saved model names its inputs: `x`, `rest_0` of a list, `more_a` of a dict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import Lower86Error, first_line


@dataclass(frozen=True)
class Input:
    """One tensor that a model takes: an example, and which of its axes vary. Without an example, only a name."""

    name: str
    example: Tensor | None = None
    open_axes: frozenset[int] = frozenset()

    @property
    def rows_vary(self) -> bool:
        """Whether its first axis may have any size."""
        return 0 in self.open_axes


@dataclass(frozen=True)
class Example:
    """The arguments of one call. Each tensor is an object of its own, so that it can be told from all others."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __post_init__(self) -> None:
        own = pytree.tree_map_only(Tensor, Tensor.detach, (self.args, dict(self.kwargs)))
        for name, value in zip(("args", "kwargs"), own, strict=True):
            object.__setattr__(self, name, value)


def example_of(item: Any) -> Example:
    """A call as an example: a dict is arguments by name, a tuple or list all of them, anything else the only one."""
    if isinstance(item, Mapping):
        return Example((), dict(item))
    return Example(tuple(item) if isinstance(item, (tuple, list)) else (item,), {})


def inputs_of(model: nn.Module, example: Example | None, dynamic_shapes: Any) -> tuple[Input, ...]:
    """The tensors that the model takes, in order; without an example, all arguments that have no default.

    Raises Lower86Error for an example that `forward` does not take.
    """
    if example is None:
        kinds = inspect.Parameter
        wanted = inspect.signature(model.forward).parameters.values()
        return tuple(
            Input(one.name)
            for one in wanted
            if one.default is kinds.empty and one.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        )
    bound = _bound(model, example)
    varies = _open_in_graph(model, bound.args, bound.kwargs) if dynamic_shapes is None else None
    found: list[Input] = []
    for place, (name, value) in enumerate(bound.arguments.items()):
        axes = _open_axes(value, _spec_of(dynamic_shapes, name, place))
        leaves = pytree.tree_flatten_with_path(value)[0]
        for path, leaf in leaves:
            if isinstance(leaf, Tensor):
                open_axes = varies.get(id(leaf), frozenset()) if varies is not None else axes.get(id(leaf), frozenset())
                found.append(Input(leaf_name(model, name, path), leaf, open_axes))
    return tuple(found)


def call_with(model: nn.Module, example: Example | None, tensors: Mapping[str, Tensor]) -> Any:
    """A call of the model with these tensors by name, everything else as in the example: a tuple, or a dict by name."""
    if example is None:
        parameters = inspect.signature(model.forward).parameters
        ordered = [name for name in parameters if name in tensors]
        by_place = all(parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY for name in ordered)
        return tuple(tensors[name] for name in ordered) if by_place else dict(tensors)
    bound = _bound(model, example)
    names = {
        id(leaf): leaf_name(model, name, path)
        for name, value in bound.arguments.items()
        for path, leaf in pytree.tree_flatten_with_path(value)[0]
    }
    args, kwargs = pytree.tree_map_only(
        Tensor, lambda leaf: tensors.get(names[id(leaf)], leaf), (example.args, dict(example.kwargs))
    )
    if not kwargs:
        return args
    return {**dict(zip(bound.signature.parameters, args, strict=False)), **kwargs}


def _bound(model: nn.Module, example: Example) -> inspect.BoundArguments:
    try:
        return inspect.signature(model.forward).bind(*example.args, **example.kwargs)
    except TypeError as problem:
        raise Lower86Error(
            f"the model does not take its example inputs: {first_line(problem)}",
            where=type(model).__name__,
            fix="give the positional arguments of one call, in a tuple",
        ) from problem


def named_arguments(model: nn.Module, example: Example) -> Mapping[str, Any]:
    """The example's arguments by `forward`'s names for them. Raises Lower86Error where it does not take them."""
    return _bound(model, example).arguments


def leaf_name(model: nn.Module, argument: str, path: Sequence[Any]) -> str:
    """The name of a tensor at this place within an argument."""
    parameter = inspect.signature(model.forward).parameters[argument]
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", "")))) for key in path]
    return "_".join(parts if parameter.kind is inspect.Parameter.VAR_KEYWORD else [argument, *parts])


def _spec_of(dynamic_shapes: Any, name: str, place: int) -> Any:
    if isinstance(dynamic_shapes, Mapping):
        return dynamic_shapes.get(name)
    if isinstance(dynamic_shapes, (tuple, list)) and place < len(dynamic_shapes):
        return dynamic_shapes[place]
    return None


def _open_axes(value: Any, spec: Any) -> dict[int, frozenset[int]]:
    """By identity of each tensor, the axes that `dynamic_shapes` leaves open."""
    if spec is None:
        return {}
    if isinstance(value, Tensor):
        pairs = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
        return {id(value): frozenset(axis for axis, dim in pairs if _varies(dim))}
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        parts = [(item, spec.get(key)) for key, item in value.items()]
    elif isinstance(value, (tuple, list)) and isinstance(spec, (tuple, list)):
        parts = list(zip(value, spec, strict=False))
    else:
        return {}
    found: dict[int, frozenset[int]] = {}
    for item, part in parts:
        found.update(_open_axes(item, part))
    return found


def _varies(dim: Any) -> bool:
    static = getattr(getattr(dim, "type", None), "name", "") == "STATIC"
    return dim is not None and not isinstance(dim, int) and not static


def _open_in_graph(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[int, frozenset[int]]:
    """The same of a model that is a graph already, from the sizes that are symbols in it."""
    if not isinstance(model, torch.fx.GraphModule):
        return {}
    values = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    leaves = pytree.tree_leaves((tuple(args), dict(kwargs)))
    return {
        id(leaf): frozenset(axis for axis, size in enumerate(value.shape) if isinstance(size, torch.SymInt))
        for leaf, value in zip(leaves, values, strict=False)
        if isinstance(value, Tensor)
    }
