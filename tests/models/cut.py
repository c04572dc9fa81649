"""A quantized model cut at its activations, so that each layer is seen on the quantized model's own values.

End to end that cannot be seen in a deep network: one rounding that falls the other way reaches all later ones.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.graph import CodeGen


def cut(model: GraphModule, *inputs: Tensor) -> tuple[GraphModule, list[Tensor]]:
    """The model with each quantized activation as an input and as a result, and what the model gives for each.

    The cut model takes the inputs and then the activations, and returns a tuple: the activations as the layers before
    them compute them from those given, and then the model's own one result.
    """
    graph = copy.deepcopy(model.graph)
    graph.set_codegen(CodeGen())
    quantized = [node for node in graph.nodes if str(node.target).startswith("quantized_decomposed.quantize_per")]
    *_, place = (node for node in graph.nodes if node.op == "placeholder")
    for node in quantized:
        with graph.inserting_after(place):
            place = graph.placeholder(f"{node.name}_given")
        node.replace_all_uses_with(place)
    output = graph.output_node()
    (result,) = output.args[0] if isinstance(output.args[0], list | tuple) else (output.args[0],)
    output.args = ((*quantized, result),)
    recorder = _Recorder(model, {node.name for node in quantized})
    with torch.no_grad():
        recorder.run(*inputs)
    return GraphModule(model, graph), [recorder.values[node.name] for node in quantized]


class _Recorder(Interpreter):
    def __init__(self, model: GraphModule, names: set[str]) -> None:
        super().__init__(model)
        self.names, self.values = names, dict[str, Tensor]()

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names:
            self.values[n.name] = result
        return result
