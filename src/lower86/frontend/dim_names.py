"""The names that a user gave to dims: what torch.export remembers of `Dim("batch")`, and from graph to graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import SymInt, Tensor
from torch.fx import Graph, GraphModule
from torch.utils import _pytree as pytree

from ..errors import InputError
from ..graph.dim_names import Axis, is_name, mark_dims, marked_dims
from ..graph.pytrees import signature_of


def name_dims(module: GraphModule, origin: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Notes in the graph what its dims are called: by its own export, or else in the graph that it was exported from.

    `origin` is the model that it was exported from, `args` and `kwargs` are a call that both take.
    """
    mark_dims(module.graph, {**carried(origin, module, args, kwargs), **known_dims(module.graph)})


def carried(origin: object, module: GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Axis, str]:
    """The names in the graph `origin`, by where the same argument stands in `module`; none where that is no graph."""
    if not isinstance(origin, GraphModule):
        return {}
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    positional, named = pytree.tree_unflatten(range(len(leaves)), spec)
    try:
        before = signature_of(origin.graph).flatten(positional, named)
        after = signature_of(module.graph).flatten(positional, named)
    except InputError:
        return {}
    place = {leaf: number for number, leaf in enumerate(after)}
    found = known_dims(origin.graph).items()
    return {(place[before[number]], axis): name for (number, axis), name in found if number < len(before)}


def known_dims(graph: Graph) -> dict[Axis, str]:
    """What is noted in a graph, and what the export that made it was told."""
    found: dict[Axis, str] = {}
    for number, node in enumerate(graph.find_nodes(op="placeholder")):
        value = node.meta.get("val")
        for axis, size in enumerate(value.shape if isinstance(value, Tensor) else ()):
            name = _told(size) if isinstance(size, SymInt) else None
            if name is not None:
                found[number, axis] = name
    return {**found, **marked_dims(graph)}


def _told(size: SymInt) -> str | None:
    """What the user called the one symbol in a size, if export knows: it keeps names for its messages.

    Nothing public says so. Where torch no longer keeps them there, dims are called by their place, and
    tests/frontend/test_dim_names.py fails.
    """
    expression = size.node.expr
    symbols = expression.free_symbols
    environment = size.node.shape_env
    names: Mapping[str, str] = getattr(environment, "source_name_to_debug_name", {})
    sources_of: Mapping[Any, Sequence[Any]] = getattr(environment, "var_to_sources", {})
    if not names or len(symbols) != 1:
        return None
    (symbol,) = symbols
    for one, sources in sources_of.items():
        formula = environment.replace(one)
        if formula.free_symbols != {symbol}:
            continue
        for source in sources:
            text = names.get(source.name if isinstance(source.name, str) else source.name())
            words: set[str] = set(re.findall(r"[^\W\d]\w*", text or ""))
            if len(words) == 1:
                (word,) = words
                said = str(formula.xreplace({symbol: type(symbol)(word, **symbol.assumptions0)}))
                if said == text and is_name(word):  # such as batch, or 2*batch
                    return word
    return None
