"""What can be given back to float on its own: quantized contractions and tables, by the user's modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node

from ..frontend import torchao
from ..frontend.contractions import CONVOLUTIONS, LINEARS, PRODUCTS, TABLES
from ..graph.arguments import is_call
from ..graph.source import line_of, module_of
from ..ops.recurrent import gru, lstm

_KINDS: dict[str, tuple[Any, ...]] = {
    "linear": tuple(LINEARS),
    "convolution": tuple(CONVOLUTIONS),
    "table": tuple(TABLES),
    "recurrent": (lstm, gru),
    "products": tuple(PRODUCTS),
}


@dataclass(frozen=True)
class Layer:
    """One of the user's modules with the nodes that multiply or look up quantized values in it.

    `name` is the module's, or the first node's where there is none, with " (products)" for products of two activations,
    which a module computes beside its own submodules, as an attention does.
    """

    name: str
    module: str
    kind: str
    nodes: tuple[str, ...]


def layers_of(prepared: GraphModule) -> list[Layer]:
    """All layers of a prepared graph that read something quantized, in the order of the graph."""
    found: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for node in prepared.graph.nodes:
        kind = _kind_of(node)
        if kind is None or not any(is_observed(prepared, operand) for operand in node.all_input_nodes):
            continue
        # What a recurrent layer is spelled by is one: its projections alone are no choice.
        group = "products" if kind == "products" else "layer"
        # What the model computes outside all of its modules goes by lines: both products of an attention are one.
        place = module_of(node) or line_of(node)
        before, nodes = found.get((place, group), (kind, []))
        found[place, group] = kind if kind == "recurrent" else before, [*nodes, node.name]
    return [_layer(prepared, kind, nodes) for kind, nodes in found.values()]


def _layer(prepared: GraphModule, kind: str, nodes: list[str]) -> Layer:
    first = next(node for node in prepared.graph.nodes if node.name == nodes[0])
    module = module_of(first)
    name = module or nodes[0]
    return Layer(f"{name} (products)" if kind == "products" else name, module, kind, tuple(nodes))


def is_observed(prepared: GraphModule, operand: Node) -> bool:
    """Whether the value comes out of an observer: it will be quantized for those who read it there."""
    return operand.op == "call_module" and torchao.is_observer(prepared.get_submodule(str(operand.target)))


def _kind_of(node: Node) -> str | None:
    return next((kind for kind, targets in _KINDS.items() if is_call(node, *targets)), None)
