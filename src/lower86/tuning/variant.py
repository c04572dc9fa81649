"""A prepared graph with some of its layers in float again: calibrated once, converted in as many ways as wanted.

    x ─ observer ─ linear        ▶        x ─ linear

What stands before such a layer and was quantized only because the layer reads integers (pools, movement), and
residual additions that its product was fused with, become float with it, as if the quantizer had left it out.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.fx import GraphModule, Node

from ..frontend import torchao
from ..frontend.annotate import ADDS, BETWEEN
from ..frontend.contractions import CONVOLUTIONS, LINEARS, PRODUCTS
from ..graph.arguments import is_call
from ..graph.edit import replace
from ..ops.recurrent import gru, lstm
from ..quantization.bias_correction import UNCORRECTED, bias_place
from .layers import Layer, is_observed

_A = torch.ops.aten


def floated(prepared: GraphModule, layers: Iterable[Layer]) -> GraphModule:
    """A copy in which `layers` read floats, with the biases that they had before these were corrected."""
    changed = torchao.copied(prepared)
    wanted = {name for layer in layers for name in layer.nodes}
    read = {node: list(node.all_input_nodes) for node in changed.graph.nodes}
    for node in list(changed.graph.nodes):
        if node.name in wanted:
            _restore_bias(changed, node)
            _read_floats(changed, node)
            if is_call(node, lstm, gru):
                _forget_states(changed, node)
            if is_call(node, *CONVOLUTIONS):
                _free_additions(changed, node)
    for node, operands in read.items():
        if operands != list(node.all_input_nodes):
            for operand in node.all_input_nodes:
                _free_residuals(changed, operand)
    for node in reversed(list(changed.graph.nodes)):
        if not node.users and is_observed(changed, node):
            changed.graph.erase_node(node)
    changed.delete_all_unused_submodules()
    changed.graph.lint()
    changed.recompile()
    return changed


def _read_floats(prepared: GraphModule, node: Node) -> None:
    torchao.forget(node)
    for operand in list(node.all_input_nodes):
        source = operand
        while is_observed(prepared, source):
            source = source.all_input_nodes[0]
        if source is operand:
            continue
        node.replace_input_with(operand, source)
        if is_call(source, *BETWEEN) and source.op == "call_function":
            _read_floats(prepared, source)  # one of its readers wants floats now


def _free_additions(prepared: GraphModule, node: Node) -> None:
    """Residual additions read their other operand quantized only beside a convolution that is int8."""
    for user in list(node.users):
        if is_call(user, _A.batch_norm.default, _A.dropout.default):
            _free_additions(prepared, user)
        elif is_call(user, *ADDS):
            _read_floats(prepared, user)


def _free_residuals(prepared: GraphModule, value: Node) -> None:
    """A residual that no contraction reads in integers any more, nor has made, is not quantized for an addition."""
    readers = [reader for user in value.users if is_observed(prepared, user) for reader in user.users]
    made = value
    while is_call(made, _A.batch_norm.default, _A.dropout.default):
        made = made.all_input_nodes[0]
    is_contraction = is_call(made, *LINEARS, *CONVOLUTIONS, *PRODUCTS)
    if is_contraction and any(is_observed(prepared, operand) for operand in made.all_input_nodes):
        return
    if all(is_call(reader, *ADDS) for reader in readers):
        for reader in readers:
            _read_floats(prepared, reader)


def _restore_bias(prepared: GraphModule, node: Node) -> None:
    place = bias_place(node)
    bias = node.args[place] if len(node.args) > place else None
    if not isinstance(bias, Node) or UNCORRECTED not in bias.meta:
        return
    target = bias.meta[UNCORRECTED]
    before: Node | None = None
    if target is not None:
        with prepared.graph.inserting_before(node):
            before = prepared.graph.get_attr(target)
        before.meta["val"] = bias.meta["val"]
    node.args = (*node.args[:place], before, *node.args[place + 1 :])


def _forget_states(prepared: GraphModule, node: Node) -> None:
    """The states of a recurrent layer are no longer watched, nor do they stand for [-1, 1]."""
    node.kwargs = {name: value for name, value in node.kwargs.items() if not name.startswith("h_")}
    for user in [one for first in (node, *node.users) for one in first.users]:
        module = prepared.get_submodule(str(user.target)) if user.op == "call_module" else None
        if torchao.is_state_observer(module):
            replace(user, user.all_input_nodes[0])
