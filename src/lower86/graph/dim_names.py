"""The names that a user gave to dims, kept where every stage finds them: on the graph's placeholders.

Symbols keep the names that export made up: torch tells kinds of symbols apart by how their names begin.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch.fx import Graph

_KEY = "lower86_dims"
LONGEST = 64
"""Characters of a name."""

Axis = tuple[int, int]
"""The number of a placeholder, and an axis of its tensor."""


def mark_dims(graph: Graph, names: Mapping[Axis, str]) -> None:
    """Notes what the sizes of these axes are called; what is no identifier, and what the graph has not, is left out."""
    for number, node in enumerate(graph.find_nodes(op="placeholder")):
        own = {axis: name for (place, axis), name in names.items() if place == number and is_name(name)}
        if own:
            node.meta[_KEY] = own


def marked_dims(graph: Graph) -> dict[Axis, str]:
    """What `mark_dims` noted."""
    return {
        (number, axis): name
        for number, node in enumerate(graph.find_nodes(op="placeholder"))
        for axis, name in node.meta.get(_KEY, {}).items()
    }


def is_name(text: object) -> bool:
    """Whether a dim can be called so."""
    return isinstance(text, str) and text.isidentifier() and len(text) <= LONGEST
