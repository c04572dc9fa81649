"""Models that write to their own buffers or to their inputs are refused: a program would forget what it wrote.

    copy_(buffer, new)  ->  GraphError: the model writes to its buffer 'cache'

What a model writes to its own intermediate values, export has made functional.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..errors import GraphError
from ..graph.source import describe


def refuse_writes(module: GraphModule) -> None:
    """Raises GraphError for the first operator that writes to one of its operands."""
    for node in module.graph.nodes:
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            continue
        written = next((n for n in node.all_input_nodes), None)
        while written is not None and written.op == "call_function" and written.all_input_nodes:
            written = written.all_input_nodes[0]
        raise GraphError(
            f"the model writes to {_name(written)} ({target})",
            where=describe(node),
            fix="export it in eval mode; keep state out of it: take it as an input, return what is to become of it",
        )


def _name(written: Node | None) -> str:
    if written is None or written.op not in ("get_attr", "placeholder"):
        return "a value that others may read"
    return f"its {'buffer' if written.op == 'get_attr' else 'input'} {str(written.target)!r}"
