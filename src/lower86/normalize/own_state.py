"""Buffers that the model writes to become state: tensors of the lowered module's own, written once, at the very end.

    cache -> get_attr (the model's tensor)         cache -> get_attr (a copy of it)
    copy_(cache, new)                         ->   …
    …                                              copy_(cache, new)

What is written in between, export has made functional. A result or a next value that is what another buffer held before
the call is copied first, so that the graph may be run node by node:

    copy_(a, reshape(b)); copy_(b, a); return a  ->  copy_(a, clone(reshape(b))); copy_(b, clone(a)); return clone(a)
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import is_call, same_shape
from ..graph.edit import insert, tensor_at
from ..graph.movement import VIEWS
from ..graph.state import WRITE, is_state, is_write

_A = torch.ops.aten


def own_state(module: GraphModule) -> None:
    """Gives the module copies of the buffers it writes to, and moves the writes to the end of the graph."""
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    for node in list(module.graph.nodes):
        if is_call(node, WRITE) and _is_alike(node):
            node.replace_all_uses_with(node.args[1])  # a buffer that is a result, too
        if not is_write(node):
            continue
        state, value = node.args
        if value is state:
            module.graph.erase_node(node)
            continue
        if _own(module, state):
            output.prepend(node)
            node.meta.setdefault("val", state.meta["val"])


def _is_alike(write: Node) -> bool:
    """Whether what is written is all that the buffer holds then."""
    state, value = write.all_input_nodes if len(write.all_input_nodes) == 2 else (write, write)
    old, new = state.meta.get("val"), value.meta.get("val")
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return False
    return same_shape(old.shape, new.shape) and old.dtype == new.dtype


def _own(module: GraphModule, state: Node) -> bool:
    """Gives the module a tensor of its own for `state`; False for a parameter, which is none."""
    tensor = tensor_at(module, str(state.target))
    if tensor is None or isinstance(tensor, torch.nn.Parameter):
        return False
    for other in list(module.graph.nodes):
        if other.op == "get_attr" and other.target == state.target and other is not state:
            other.replace_all_uses_with(state)
            module.graph.erase_node(other)
    first = next(iter(module.graph.nodes))
    if state is not first:
        first.prepend(state)  # so that every reader comes after it
    *path, name = str(state.target).split(".")
    holder = module.get_submodule(".".join(path))
    with torch.inference_mode(False):
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    if name not in holder._buffers:
        delattr(holder, name)
    holder.register_buffer(name, copy)
    return True


def keep_old_state(module: GraphModule) -> None:
    """Copies what is read of a buffer's old value once writes have begun: by results and by writes to other buffers."""
    for node in list(module.graph.nodes):
        if node.op != "output" and not is_write(node):
            continue
        read = [node.args[1]] if is_write(node) else list(node.all_input_nodes)
        for value in read:
            if is_state(_moved(value)):
                copy = insert(_first_write(module), _A.clone.default, (value,), like=value)
                node.replace_input_with(value, copy) if node.op == "output" else node.update_arg(1, copy)


def _moved(node: Node) -> Node:
    """What a chain of movement shows."""
    while is_call(node, *VIEWS):
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return node


def _first_write(module: GraphModule) -> Node:
    first: Node = next(node for node in module.graph.nodes if is_write(node))
    return first
