"""Small edits on FX graphs that keep what reports need: source lines, module names, example values."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch.fx import GraphModule, Node

from ..errors import GraphError, first_line
from .arguments import function_of
from .source import describe
from .state import is_state, is_write

_KEPT = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


def insert(
    before: Node,
    target: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None = None,
    *,
    like: Node,
    value: Any = None,
) -> Node:
    """A new call just before `before`, with the source metadata of `like`.

    Its example value is `value`, or else computed from its arguments' example values.
    """
    graph = before.graph
    with graph.inserting_before(before):
        node = graph.call_function(target, tuple(args), kwargs or {})
    node.meta.update({key: like.meta[key] for key in _KEPT if key in like.meta})
    node.meta["val"] = _computed(node) if value is None else value
    return node


def _computed(node: Node) -> Any:
    """The example value of a call; GraphError if its operator refuses the operands."""
    try:
        return example(node)
    except Exception as problem:  # whatever an operator raises on operands that do not suit it
        raise GraphError(
            f"{node.target} cannot be computed: {first_line(problem)}",
            where=describe(node),
            fix="check the shapes of the node's operands; an empty example may need a larger one",
        ) from problem


def example(node: Node) -> Any:
    """The example value of a call, from its arguments' example values."""

    def value(argument: Any) -> Any:
        return argument.meta["val"] if isinstance(argument, Node) else argument

    args: Any = torch.fx.node.map_arg(node.args, value)
    kwargs: Any = torch.fx.node.map_arg(node.kwargs, value)
    function = function_of(node)
    mode = next((v.fake_mode for v in _tensors((args, kwargs)) if hasattr(v, "fake_mode")), None)
    if mode is None:
        return function(*args, **kwargs)
    # Python's own shape functions where PyTorch has two: the ones in C++ would fix sizes that vary.
    # Nothing public turns them on; every test with sizes that vary goes through here.
    with mode, enable_python_dispatcher():
        return function(*args, **kwargs)


def add_examples(module: GraphModule) -> None:
    """Computes the example value of every constant and call anew, as after an edit by the user."""
    mode = _mode_of(module.graph.nodes)
    for node in module.graph.nodes:
        if node.op == "get_attr" and "val" not in node.meta:
            tensor = tensor_at(module, str(node.target))
            if tensor is not None:
                node.meta["val"] = _as_example(tensor, mode)
        elif is_write(node):
            node.meta["val"] = node.all_input_nodes[0].meta["val"]  # not to be tried out: it may be a real tensor's
        elif node.op == "call_function":
            node.meta["val"] = _computed(node)


def _mode_of(nodes: Iterable[Node]) -> Any:
    """The mode of the graph's fake tensors."""
    modes = (getattr(node.meta.get("val"), "fake_mode", None) for node in nodes)
    return next((mode for mode in modes if mode is not None), None)


def _as_example(tensor: torch.Tensor, mode: Any) -> Any:
    return mode.from_tensor(tensor.detach(), static_shapes=True) if mode is not None else tensor.detach()


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def replace(node: Node, by: Node) -> None:
    """All users of `node` use `by` instead; `node` goes away."""
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def replace_results(node: Node, results: Sequence[Node]) -> None:
    """Who takes result i of `node` uses `results[i]` instead; `node` goes away."""
    for user in list(node.users):
        assert user.target is operator.getitem
        number: Any = user.args[1]
        replace(user, results[number])
    node.graph.erase_node(node)


def constant_of(module: GraphModule, node: object) -> torch.Tensor | None:
    """The tensor that a `get_attr` node reads in every call, or None for any other node; state is no constant."""
    if not isinstance(node, Node) or node.op != "get_attr" or is_state(node):
        return None
    found = tensor_at(module, str(node.target))
    return found.detach() if found is not None else None


def tensor_at(module: torch.nn.Module, name: str) -> torch.Tensor | None:
    """The parameter or buffer of a dotted name, or None if that is something else."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, torch.Tensor) else None


def insert_constant(module: GraphModule, before: Node, tensor: torch.Tensor, stem: str) -> Node:
    """A `get_attr` node of a new buffer that holds `tensor`; equal tensors share no buffer, their bytes may."""
    number = 0
    while hasattr(module, f"{stem}_{number}"):
        number += 1
    name = f"{stem}_{number}"
    module.register_buffer(name, tensor.detach().contiguous(), persistent=True)
    with before.graph.inserting_before(before):
        node = before.graph.get_attr(name)
    node.meta["val"] = _as_example(tensor, _mode_of(before.graph.nodes))
    return node


def remove_dead(module: GraphModule) -> None:
    """Erases calls that nobody uses (but not those that write), and attributes that no node reads any more."""
    for node in reversed(list(module.graph.nodes)):
        writes = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        if node.op in ("call_function", "get_attr") and not node.users and not writes:
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    used = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    for name in list(module._buffers):
        if name not in used:
            del module._buffers[name]
    for name in list(module._parameters):
        if name not in used:
            del module._parameters[name]
