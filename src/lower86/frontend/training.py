"""The two modes of a graph that is trained: what batch norms, dropouts and recurrent layers do in training, and after.

Their mode is an argument of their call. torchao's functions for it replace whole patterns, and with them the batch
norm's momentum and eps and the dropout's probability by PyTorch's defaults; so dropouts, too, are called by their
Python function, which torchao does not look for.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from ..graph.arguments import arguments, is_call
from .attention import ATTENTION
from .batch_norms import NAMES, fold_batch_norms, spell_batch_norms

_A = torch.ops.aten
_MODES = ("train", "training")
"""What PyTorch's operators call the argument."""
_PROBABILITY = "lower86_dropout"


def spell_for_training(module: GraphModule) -> None:
    """Spells batch norms and dropouts so that they can be moved, in place, after the graph has been annotated."""
    spell_batch_norms(module)
    for node in module.graph.nodes:
        if is_call(node, _A.dropout.default, _A.dropout_.default):
            given = tuple(arguments(node).values())
            node.target, node.args = F.dropout, (*given, node.target is _A.dropout_.default)
            node.kwargs = {}


def set_training(module: GraphModule, training: bool) -> None:
    """Has a graph do what it does in training, or what it does after it, in place."""
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is F.batch_norm:
            # Without statistics of its own, a batch norm takes those of its input in any case.
            node.update_arg(NAMES.index("training"), training or node.args[1] is None)
        elif node.target is F.dropout:
            node.update_arg(2, training)
        elif isinstance(node.target, torch._ops.OpOverload):
            _set_operator(node, training)
    module.recompile()


def _set_operator(node: Node, training: bool) -> None:
    if is_call(node, ATTENTION):
        p = node.meta.setdefault(_PROBABILITY, arguments(node)["dropout_p"])
        _set(node, "dropout_p", p if training else 0.0)
    for name in arguments(node):
        if name in _MODES:
            _set(node, name, training)


def _set(node: Node, name: str, value: object) -> None:
    given = {**arguments(node), name: value}
    assert isinstance(node.target, torch._ops.OpOverload)
    by_name = {p.name for p in node.target._schema.arguments if p.kwarg_only}
    node.args = tuple(each for key, each in given.items() if key not in by_name)
    node.kwargs = {key: given[key] for key in by_name if key in given}


def fold_after_training(module: GraphModule) -> None:
    """Folds batch norms and drops dropouts of a converted graph in eval mode, in place."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is F.dropout:
            node.replace_all_uses_with(node.all_input_nodes[0])
            module.graph.erase_node(node)
    fold_batch_norms(module)
