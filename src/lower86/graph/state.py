"""State: buffers that the model writes to, and how a graph says so.

    %cache: get_attr[cache]
    %new = index_copy(%cache, 2, %position, %row)
    copy_(%cache, %new)                  a write: after everything else, and nobody reads its result
    return %logits

Until then, whoever reads %cache has the value from before the call.
"""

from __future__ import annotations

import torch
from torch.fx import Graph, Node

from .arguments import is_call

WRITE = torch.ops.aten.copy_.default


def is_write(node: object) -> bool:
    """Whether the node gives a buffer its next value, and does nothing else."""
    if not is_call(node, WRITE):
        return False
    assert isinstance(node, Node)
    target = node.args[0]
    return isinstance(target, Node) and target.op == "get_attr" and not node.users


def is_state(node: object) -> bool:
    """Whether the node reads a buffer that the graph writes to."""
    return isinstance(node, Node) and node.op == "get_attr" and any(_writes_to(user, node) for user in node.users)


def _writes_to(user: Node, node: Node) -> bool:
    return is_write(user) and user.args[0] is node


def writes(graph: Graph) -> list[tuple[Node, Node]]:
    """What the graph writes to, in order, and the next value of each."""
    found = []
    for node in graph.nodes:
        if is_write(node):
            state, value = node.args
            assert isinstance(state, Node)
            assert isinstance(value, Node)
            found.append((state, value))
    return found
