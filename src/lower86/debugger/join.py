"""Which nodes of three graphs stand for the same value: of the float model, the quantized one, and the lowered one.

Export, torchao and lower86 write into every node what it was made from (`from_node`), step by step: a lowered node's
history ends with its quantized node's, and that with the exported float node's. torchao's debug handles, where the
user has given them to the exported program, say the same of the float and the quantized node, and come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch.fx import GraphModule, Node

from ..frontend.torchao import debug_handle
from ..graph.scaled import factors_of
from .places import is_dequantize, is_quantize, name_of

Origin = tuple[str, int]
"""A node as `from_node` knows it: its name, and the graph that it was in."""


def origins(node: Node) -> Iterator[Origin]:
    """What a node was made from, the last first."""
    sources = node.meta.get("from_node") or ()
    while sources:
        yield sources[-1].name, sources[-1].graph_id
        sources = sources[-1].from_node


def lowered_nodes(quantized: GraphModule, lowered: GraphModule) -> dict[str, list[Node]]:
    """For each node of the quantized graph, by name, the lowered ones that were made from it, in order."""
    by_origin: dict[Origin, list[Node]] = {}
    by_name: dict[str, list[Node]] = {}
    for node in quantized.graph.nodes:
        first = next(origins(node), None)
        if first is None:
            by_name[node.name] = [node]
        else:
            by_origin.setdefault(first, []).append(node)
    found: dict[str, list[Node]] = {}
    for node in lowered.graph.nodes:
        if node.op != "call_function":
            continue
        history = list(origins(node))
        known = (by_origin.get(one) for one in history)
        unnamed = (by_name.get(name) for name, _ in history)
        for candidates in (*known, *unnamed):
            alike = [n for n in candidates or () if is_quantize(n) == is_quantize(node) and not is_dequantize(n)]
            if alike:
                found.setdefault(next((n for n in alike if n.target == node.target), alike[-1]).name, []).append(node)
                break
    return found


class FloatNodes:
    """Finds the float graph's node for one of the quantized graph."""

    def __init__(self, model: GraphModule, quantized: GraphModule) -> None:
        nodes = [node for node in model.graph.nodes if node.op == "call_function"]
        self._by_handle: dict[int, Node] = {handle: n for n in nodes if (handle := debug_handle(n)) is not None}
        self._by_origin: dict[Origin, Node] = {next(origins(node), (node.name, 0)): node for node in nodes}
        self._by_name: dict[str, Node] = {next(origins(node), (node.name, 0))[0]: node for node in nodes}
        self._by_history: dict[tuple[str, ...], Node] = {_history(node): node for node in nodes}
        inputs = ([n for n in m.graph.nodes if n.op == "placeholder"] for m in (quantized, model))
        self._inputs: Mapping[Node, Node] = dict(zip(*inputs, strict=False))
        self._last = {found: node for node in quantized.graph.nodes for found in self._candidates(node)}
        norms = [n for n in quantized.graph.nodes if "batch_norm" in name_of(n)]
        self._norms = {self._of(n) for n in norms}

    def of(self, node: Node) -> Node | None:
        """The float model's node that gives what `node` gives; None if there is none."""
        found = self._of(node)
        if found is None or len(found.users) != 1:
            return found
        (reader,) = found.users
        # A batch norm that quantization has folded away: its result is now the convolution's.
        return reader if "batch_norm" in name_of(reader) and reader not in self._norms else found

    def _of(self, node: Node) -> Node | None:
        scaled = node.all_input_nodes[:1] if factors_of(node) is not None and name_of(node) == "mul" else []
        for one in (node, *scaled):
            if one.op == "placeholder":
                return self._inputs.get(one)
        for found in self._candidates(node):
            # What quantization spells out, as an attention, ends with a node of another name.
            if name_of(found) == name_of(node) or self._last.get(found) is node:
                return found
        return None

    def _candidates(self, node: Node) -> list[Node]:
        """The float nodes that it may have been made from, the likeliest first."""
        first = next(origins(node), (node.name, 0))
        handle = debug_handle(node)
        # A quantized program that was in a file was exported once more: its nodes were renamed, and are now at a
        # later stage of their history than the float model's, with which the history ends.
        names = _history(node)
        ends = (self._by_history.get(names[place:]) for place in range(len(names) - 1))
        known = next((one for one in ends if one is not None), None) or self._by_name.get(first[0])
        same = None if handle is None else self._by_handle.get(handle)
        return [one for one in (same, self._by_origin.get(first), known) if one is not None]


def _history(node: Node) -> tuple[str, ...]:
    """The names of what a node was made from, the last first."""
    return tuple(name for name, _ in origins(node)) or (node.name,)
