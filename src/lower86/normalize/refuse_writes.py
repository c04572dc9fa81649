"""Writes to anything but buffers are refused: an input is the caller's, a parameter is a constant of the program.

    copy_(x, new)  ->  GraphError: the model writes to its input 'x'

What a model writes to its own intermediate values, export has made functional; its buffers have become state. Not those
of a batch norm in training: whoever lowers that has forgotten eval().
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..errors import GraphError
from ..graph.arguments import arguments
from ..graph.edit import tensor_at
from ..graph.source import describe
from ..graph.state import is_write


def refuse_writes(module: GraphModule) -> None:
    """Raises GraphError for the first operator that writes to one of its operands and does not make state of it."""
    trained = {n for node in module.graph.nodes if _is_training(node) for n in node.all_input_nodes}
    for node in module.graph.nodes:
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            continue
        written = next((n for n in node.all_input_nodes), None)
        while written is not None and written.op == "call_function" and written.all_input_nodes:
            written = written.all_input_nodes[0]
        name = _name(module, written)
        if is_write(node) and name.startswith("its buffer") and not trained:
            continue
        raise GraphError(
            f"the model writes to {name} ({target})",
            where=describe(node),
            fix="export it in eval mode; keep state in buffers, or take it as an input and return what is to become of "
            "it",
        )


def _is_training(node: Node) -> bool:
    """Whether the node is a normalization that updates running statistics."""
    if node.op != "call_function" or "batch_norm" not in str(node.target):
        return False
    return arguments(node).get("training", arguments(node).get("train", "functional" in str(node.target))) is True


def _name(module: GraphModule, written: Node | None) -> str:
    if written is None or written.op not in ("get_attr", "placeholder"):
        return "a value that others may read"
    if written.op == "placeholder":
        return f"its input {str(written.target)!r}"
    parameter = isinstance(tensor_at(module, str(written.target)), torch.nn.Parameter)
    return f"its {'parameter' if parameter else 'buffer'} {str(written.target)!r}"
