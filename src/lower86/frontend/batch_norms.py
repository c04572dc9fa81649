"""Batch norms in quantization-aware training: what is rounded is the weight that the folded convolution will have.

    batch_norm(conv(x, w) + b)   ->   batch_norm(conv(x, w · f) / f + b)        f = gamma / sqrt(variance + eps)

The statistics of training stay those of the convolution. When training is over, a batch norm with fixed statistics is
an affine function, and all of it but `conv(x, w · f)` is a bias. As torchao does it (the "approximate" way of
PyTorch's `ConvBn2d`, one pass over the convolution), but for any convolution, with the model's own eps and momentum,
and by looking at the graph: torchao traces a hundred patterns for it, half a minute long.

Batch norms are called by their Python function in the meantime, so that torchao, which looks for the operator, finds
none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from ..graph.arguments import arguments, is_call
from ..graph.edit import constant_of, insert, insert_constant, replace
from .contractions import CONVOLUTIONS
from .torchao import input_specs, rename_input

_A = torch.ops.aten
_SMALLEST = 1e-6
"""Of |f|, so that the channels of a gamma of 0 are not 0 / 0."""
_FOLDED = "lower86_folds"
NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def spell_batch_norms(module: GraphModule) -> None:
    """Spells every batch norm for training, in place, after the graph has been annotated."""
    for node in list(module.graph.nodes):
        if not is_call(node, _A.batch_norm.default):
            continue
        given = arguments(node)
        if _can_fold(given):
            _fold_factor(node, given)
            node.meta[_FOLDED] = True
        node.target = F.batch_norm
        node.args, node.kwargs = tuple(given[name] for name in NAMES), {}


def fold_batch_norms(module: GraphModule) -> None:
    """Makes a bias of every batch norm that training has folded, in place; others become operators again."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is F.batch_norm:
            given = dict(zip(NAMES, node.args, strict=True))
            if not (node.meta.get(_FOLDED) and _fold_bias(module, node, given)):
                node.target = _A.batch_norm.default
                order = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
                node.args = (*(given[name] for name in order), False)
        elif _counts_batches(node):
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def _can_fold(given: dict[str, Any]) -> bool:
    conv = given["input"]
    return (
        is_call(conv, *CONVOLUTIONS)
        and len(conv.users) == 1
        and arguments(conv)["weight"] in input_specs(conv)
        and given["running_var"] is not None
    )


def _fold_factor(node: Node, given: dict[str, Any]) -> None:
    conv = given["input"]

    def call(target: Any, *args: Any, before: Node = node) -> Node:
        return insert(before, target, args, like=conv)

    convolved = arguments(conv)
    weight, bias = convolved["weight"], convolved["bias"]
    channels = [1, -1, *[1] * (weight.meta["val"].dim() - 2)]
    factor = call(_A.rsqrt.default, call(_A.add.Scalar, given["running_var"], given["eps"], before=conv), before=conv)
    if given["weight"] is not None:
        factor = call(_A.mul.Tensor, factor, given["weight"], before=conv)
    is_dead = call(_A.lt.Scalar, call(_A.abs.default, factor, before=conv), _SMALLEST, before=conv)
    factor = call(_A.masked_fill.Scalar, factor, is_dead, _SMALLEST, before=conv)
    scaled = _scaled(conv, weight, factor, channels)
    rename_input(conv, weight, scaled)
    conv.args = (convolved["input"], scaled, None, *conv.args[3:])
    conv.kwargs = {name: value for name, value in conv.kwargs.items() if name not in ("weight", "bias")}
    result = call(_A.div.Tensor, conv, call(_A.reshape.default, factor, channels))
    if bias is not None:
        result = call(_A.add.Tensor, result, call(_A.reshape.default, bias, channels))
    given["input"] = result


def _scaled(conv: Node, weight: Node, factor: Node, channels: list[int]) -> Node:
    """The weight times a factor for each output channel."""

    def call(target: Any, *args: Any) -> Node:
        return insert(conv, target, args, like=conv)

    if CONVOLUTIONS[conv.target] == 0:
        return call(_A.mul.Tensor, weight, call(_A.reshape.default, factor, [-1, *channels[:1], *channels[2:]]))
    # The weight of a transposed convolution is [in, out / groups, …]: the inputs of a group are beside each other.
    groups = arguments(conv)["groups"]
    grouped = call(_A.unflatten.int, weight, 0, [groups, -1])
    factors = call(_A.reshape.default, factor, [groups, *channels])
    return call(_A.flatten.using_ints, call(_A.mul.Tensor, grouped, factors), 0, 1)


def _fold_bias(module: GraphModule, node: Node, given: dict[str, Any]) -> bool:
    """Whether the batch norm could be made a bias of its convolution: beta + (b - mean) · f."""
    divided, bias = given["input"], None
    if is_call(divided, _A.add.Tensor):
        divided, bias = divided.args
    if not is_call(divided, _A.div.Tensor) or not is_call(divided.args[0], *CONVOLUTIONS):
        return False
    conv = divided.args[0]
    values = {name: constant_of(module, given[name]) for name in ("running_mean", "running_var", "weight", "bias")}
    mean, variance = values["running_mean"], values["running_var"]
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance + given["eps"])
    if values["weight"] is not None:
        factor = factor * values["weight"]
    own = constant_of(module, bias.args[0]) if isinstance(bias, Node) else None
    total = ((own if own is not None else 0.0) - mean) * factor
    if values["bias"] is not None:
        total = total + values["bias"]
    constant = insert_constant(module, conv, total, f"{conv.name}_bias")
    conv.args = (*conv.args[:2], constant, *conv.args[3:])
    replace(node, conv)
    return True


def _counts_batches(node: Node) -> bool:
    """Whether the node is a batch norm's count of the batches it has seen."""
    if not is_call(node, _A.add_.Tensor):
        return False
    counter = node.args[0]
    return isinstance(counter, Node) and counter.op == "get_attr" and "num_batches_tracked" in str(counter.target)
