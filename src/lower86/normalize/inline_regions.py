"""no_grad and autocast regions: their bodies become part of the graph.

wrap_with_set_grad_enabled(False, body, x, …)  ->  the nodes of body
"""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from ..graph.edit import replace

_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""How many settings stand before the body in the arguments."""


def inline_regions(module: GraphModule) -> None:
    """Inlines region calls. Inference needs no gradients; export has already written autocast's casts into the body."""
    for node in list(module.graph.nodes):
        settings = (
            _REGIONS.get(str(getattr(node.target, "__name__", node.target))) if node.op == "call_function" else None
        )
        if settings is not None:
            _inline(module, node, settings)


def _inline(module: GraphModule, node: Node, settings: int) -> None:
    body_node, *operands = node.args[settings:]
    assert isinstance(body_node, Node)
    body = module.get_submodule(str(body_node.target))
    assert isinstance(body, GraphModule)
    inline_regions(body)
    remaining = iter(operands)
    made: dict[Node, Any] = {}
    outputs: Any = ()
    for inner in body.graph.nodes:
        if inner.op == "placeholder":
            made[inner] = next(remaining)
        elif inner.op == "output":
            outputs = inner.args[0]
        else:
            with module.graph.inserting_before(node):
                made[inner] = module.graph.node_copy(inner, lambda n: made[n])
            if inner.op == "get_attr":
                made[inner].target = f"{body_node.target}.{inner.target}"
    single = isinstance(outputs, Node)
    for user in list(node.users):
        if single:
            break
        replace(user, made[outputs[user.args[1]]])
    if single:
        node.replace_all_uses_with(made[outputs])
    module.graph.erase_node(node)
