"""What the dims of a program are called: as the user said, or by an argument and its axis, or as export calls them.

Until the program is whole, dims have export's symbols for names: unlike a user's, they cannot be those of kernels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import SymInt, Tensor
from torch.fx import Graph

from ..errors import GraphError
from ..graph.dim_names import LONGEST, marked_dims


def names_of_dims(graph: Graph) -> dict[str, str]:
    """A name for each symbol in the sizes of the graph's inputs, no two alike."""
    marked = marked_dims(graph)
    told: dict[str, str] = {}
    by_place: dict[str, str] = {}  # the first axis that is the dim, no more and no less
    symbols: dict[str, None] = {}
    placeholders = graph.find_nodes(op="placeholder")
    for number, node in enumerate(placeholders):
        value = node.meta.get("val")
        for axis, size in enumerate(value.shape if isinstance(value, Tensor) else ()):
            if not isinstance(size, SymInt):
                continue
            found = sorted(str(symbol) for symbol in size.node.expr.free_symbols)
            symbols.update(dict.fromkeys(found))
            if (number, axis) in marked and len(found) == 1:
                told.setdefault(found[0], marked[number, axis])
            if size.node.expr.is_Symbol:
                by_place.setdefault(found[0], f"{node.target}_{axis}")
    inputs = {str(node.target) for node in placeholders}
    names: dict[str, str] = {}
    for symbol, name in told.items():
        if name not in names.values():
            names[symbol] = name
    for symbol in symbols:
        if symbol not in names:
            place = by_place.get(symbol, "")
            clear = place.isidentifier() and len(place) <= LONGEST and place not in inputs
            names[symbol] = _free(place if clear else symbol, symbol, {*names.values()})
    return names


def _free(wanted: str, otherwise: str, taken: set[str]) -> str:
    name = otherwise if wanted in taken else wanted
    while name in taken:
        name += "_"
    return name


@contextmanager
def named_in_errors(names: Mapping[str, str]) -> Iterator[None]:
    """Has GraphErrors from within it say a dim's name where they say its symbol."""
    try:
        yield
    except GraphError as error:
        pattern = "|".join(re.escape(symbol) for symbol in names)
        if not names or not re.search(rf"\b({pattern})\b", error.what):
            raise
        what = re.sub(rf"\b({pattern})\b", lambda found: names[found[0]], error.what)
        named = type(error)(what, where=error.where, fix=error.fix).with_traceback(error.__traceback__)
        raise named from error.__cause__
