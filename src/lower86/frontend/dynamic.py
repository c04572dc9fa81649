"""Dims that stay open: those of a graph that is dynamic already, and examples that would close them.

torch.export fixes every dim that `dynamic_shapes` does not name, also where the model it is given was exported with
open ones; and it takes an example of size 0 or 1 for a special case of its own, not for an example of any size.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ..errors import InputError
from ..graph.layout_guards import least
from ..graph.pytrees import signature_of


def kept_dims(model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """`dynamic_shapes` that leave open what is symbolic in the model's own graph; None if nothing is."""
    if not isinstance(model, GraphModule):
        return None
    examples = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    try:
        leaves = signature_of(model.graph).flatten(args, kwargs)
        axes = {id(leaf): _open_axes(example) for leaf, example in zip(leaves, examples, strict=True)}
        positional, named = pytree.tree_map(lambda leaf: axes.get(id(leaf)), (tuple(args), dict(kwargs)))
        shapes = dict(inspect.signature(model.forward).bind(*positional, **named).arguments)
    except (InputError, TypeError, ValueError):
        return None  # the example does not fit the graph; export says better why
    return shapes if any(axes.values()) else None


def _open_axes(example: Any) -> dict[int, Any] | None:
    if not isinstance(example, Tensor):
        return None
    sizes: tuple[Any, ...] = tuple(example.shape)
    axes = {axis: _hint(size) for axis, size in enumerate(sizes) if isinstance(size, torch.SymInt)}
    return axes or None


def _hint(size: torch.SymInt) -> Any:
    bounds = size.node.shape_env.bound_sympy(size.node.expr)
    low = least(size.node.shape_env, size.node.expr) or None
    high = int(bounds.upper) if bounds.upper.is_Integer and int(bounds.upper) < 2**40 else None
    auto: Any = torch.export.Dim.AUTO
    return auto if low is None and high is None else auto(min=low, max=high)


def larger_examples(
    model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example arguments with every open dim of size 0 or 1 made larger, by repeating what is there.

    Raises InputError for an axis that a tensor does not have.
    """
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError:
        return tuple(args), dict(kwargs)  # export says better what is wrong
    if isinstance(dynamic_shapes, Mapping):
        specs = [dynamic_shapes.get(name) for name in bound.arguments]
    else:
        specs = [*dynamic_shapes, *[None] * len(bound.arguments)][: len(bound.arguments)]
    for (name, value), spec in zip(list(bound.arguments.items()), specs, strict=True):
        bound.arguments[name] = _larger(value, spec)
    found, kinds = bound.arguments, inspect.Parameter
    gathered = (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    if any(bound.signature.parameters[name].kind in gathered for name in found):
        return bound.args, bound.kwargs
    # As they were given: an exported graph's signature says of none that it goes by name alone.
    return tuple(found[name] for name in [*found][: len(args)]), {name: found[name] for name in kwargs}


def _larger(value: Any, spec: Any) -> Any:
    if spec is None:
        return value
    if isinstance(value, Tensor):
        axes = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
        for axis, dim in axes:
            if isinstance(axis, int) and axis >= value.dim():
                raise InputError(
                    f"it names axis {axis} of a tensor of shape {list(value.shape)}",
                    where="dynamic_shapes",
                    fix="axes are counted from 0",
                )
            value = _resized(value, axis, _wanted(dim, value.shape[axis]))
        return value
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        kind: Any = type(value)
        return kind({key: _larger(item, spec.get(key)) for key, item in value.items()})
    children, structure = pytree.tree_flatten(value, is_leaf=lambda part: part is not value)
    parts = spec if isinstance(spec, (list, tuple)) else pytree.tree_leaves(spec, is_leaf=lambda part: part is not spec)
    if len(parts) != len(children):
        return value
    return pytree.tree_unflatten([_larger(c, p) for c, p in zip(children, parts, strict=True)], structure)


def _wanted(dim: Any, size: int) -> int:
    """The size to export with: for 0 or 1, 2 or the least the dim allows; a dim derived from another follows it."""
    if dim is None or isinstance(dim, int) or getattr(getattr(dim, "type", None), "name", "") == "STATIC":
        return size
    root, formula = getattr(dim, "root", dim), getattr(dim, "fn", None)
    low, high = getattr(root, "min", None), getattr(root, "max", None)
    least = max(2, int(low) if low is not None else 0)
    if high is not None and high < least:
        return size
    if formula is not None:
        return int(formula(least)) if size in (formula(0), formula(1)) else size
    return least if size < 2 else size


def _resized(tensor: Tensor, axis: int, size: int) -> Tensor:
    have = tensor.shape[axis]
    if have == size:
        return tensor
    if have == 0:
        return tensor.new_zeros((*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]))
    return tensor.index_select(axis, torch.arange(size) % have)
