"""Weights that a model computes from its parameters, anew at every call, are computed once.

matmul(x, numpy_T(w))                      ->  matmul(x, w')
conv1d(x, unsqueeze(squeeze(w)))           ->  conv1d(x, w')
conv1d(x, weight_norm(magnitude, w))       ->  conv1d(x, w')

So they are weights like others: they have a scale for each channel and can be smoothed and clipped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..frontend.contractions import contraction_of, table_of
from ..frontend.memory import Memory
from ..graph.arguments import function_of
from ..graph.edit import insert_constant, remove_dead, replace, tensor_at


def hold_computed_weights(graph: GraphModule) -> None:
    """Replaces every weight and table that is computed from constants alone by its value, in place."""
    for weight in _computed(graph):
        with torch.no_grad():
            value = _value(graph, weight, {})
        # A view would be the parameter's own memory, which others may read.
        held = insert_constant(graph, weight, value.clone(), "_weight")
        held.meta.update({key: found for key, found in weight.meta.items() if key != "val"})
        replace(weight, held)
    remove_dead(graph)
    graph.recompile()


def _computed(graph: GraphModule) -> list[Node]:
    """The weights and tables that are computed, each once, however many read it."""
    memory, found = Memory(graph.graph), dict[Node, None]()
    for node in graph.graph.nodes:
        contraction = contraction_of(node, memory)
        weight = table_of(node, memory) if contraction is None else contraction.weight
        if weight is not None and weight.op == "call_function":
            found[weight] = None
    return list(found)


def _value(graph: GraphModule, node: Node, known: dict[Node, Any]) -> Tensor:
    """What a constant node gives."""
    for operand in node.all_input_nodes:
        if operand not in known:
            known[operand] = _value(graph, operand, known)
    if node.op == "get_attr":
        held = tensor_at(graph, str(node.target))
        assert held is not None
        return held.detach()
    args: Any = torch.fx.node.map_arg(node.args, known.__getitem__)
    kwargs: Any = torch.fx.node.map_arg(node.kwargs, known.__getitem__)
    result: Tensor = function_of(node)(*args, **kwargs)
    return result
