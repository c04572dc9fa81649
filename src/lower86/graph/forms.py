"""What each form of the graph promises, as named predicates, checked between stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from ..errors import GraphError
from .arguments import is_call
from .qparams import is_dequantize
from .source import describe
from .state import is_write

_A = torch.ops.aten


def only_calls(module: GraphModule, node: Node) -> bool:
    """Inputs, constants, operator calls and the output; no modules, no methods."""
    return node.op in ("placeholder", "get_attr", "call_function", "output")


def functional(module: GraphModule, node: Node) -> bool:
    """No operator writes to its inputs, but those that give state its next value once all else is computed."""
    target = node.target
    if not (isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable):
        return True
    return is_write(node) and (node.next.op == "output" or is_write(node.next))


def one_write(module: GraphModule, node: Node) -> bool:
    """State is read by one node, and written once."""
    if not is_write(node):
        return True
    name = str(node.all_input_nodes[0].target)
    held = [n for n in module.graph.nodes if n.op == "get_attr" and str(n.target) == name]
    return len(held) == 1 and sum(is_write(user) and user.args[0] is held[0] for user in held[0].users) == 1


def has_example(module: GraphModule, node: Node) -> bool:
    """Every value has an example, so that shapes and dtypes are known; a graph (of torch.cond) is no value."""
    return node.op == "output" or "val" in node.meta or _is_graph(module, node)


def _is_graph(module: GraphModule, node: Node) -> bool:
    return node.op == "get_attr" and str(node.target) in dict(module.named_modules())


def own_dequantize(module: GraphModule, node: Node) -> bool:
    """A dequantize has one user."""
    return not is_dequantize(node) or len(node.users) <= 1


def one_movement_spelling(module: GraphModule, node: Node) -> bool:
    """No t, transpose or view: permute and reshape stand for them."""
    return not is_call(node, _A.t.default, _A.transpose.int, _A.view.default, _A._unsafe_view.default)


def one_product_spelling(module: GraphModule, node: Node) -> bool:
    """No mm or bmm: matmul and linear stand for them."""
    return not is_call(node, _A.mm.default, _A.bmm.default)


def no_symbols(module: GraphModule, node: Node) -> bool:
    """Sizes that vary are nodes: a symbol among the arguments would mean nothing in the graph's code."""
    leaves = tree_leaves((node.args, node.kwargs))
    return not any(isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool) for leaf in leaves)


@dataclass(frozen=True)
class Form:
    """A named list of predicates that hold for every node."""

    name: str
    predicates: tuple[Callable[[GraphModule, Node], bool], ...]


NORMAL = Form(
    "NORMAL",
    (
        only_calls, functional, one_write, has_example, no_symbols,
        own_dequantize, one_movement_spelling, one_product_spelling,
    ),
)  # fmt: skip
INT8 = Form("INT8", (only_calls, functional, one_write, has_example, no_symbols))


def check(module: GraphModule, form: Form) -> None:
    """Raises GraphError that lists every violation of `form`."""
    problems = [
        f"{predicate.__name__}: {describe(node)}"
        for node in module.graph.nodes
        for predicate in form.predicates
        if not predicate(module, node)
    ]
    if problems:
        raise GraphError(
            f"the graph is not in {form.name} form",
            where="; ".join(problems[:5]),
            fix="this is a gap in lower86: report the model, or leave the operator's module out of the quantized part",
        )
