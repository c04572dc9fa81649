"""An independent count of the multiply-accumulates that a quantized model asks for in int8.

It knows nothing of lower86: it runs the graph that `convert_pt2e` returned and notes the real shapes of every
contraction both of whose operands come out of a dequantize, directly or moved. What `lower86.explain` reports has to be
the same numbers.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

_A = torch.ops.aten

_MOVEMENT = {
    "view", "reshape", "_unsafe_view", "permute", "transpose", "t", "flatten", "unflatten", "squeeze", "unsqueeze",
    "expand", "slice", "select", "narrow", "chunk", "split", "split_with_sizes", "unbind", "flip", "contiguous",
    "clone", "detach", "alias", "lift_fresh_copy", "_to_copy", "to", "dropout",
}  # fmt: skip
"""Operators whose result holds elements of the first operand (`dropout` in a model that is not in training)."""

_OPERANDS = {
    "linear": (0, 1), "mm": (0, 1), "bmm": (0, 1), "matmul": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2),
    "conv1d": (0, 1), "conv2d": (0, 1), "conv3d": (0, 1), "convolution": (0, 1),
    "conv_transpose1d": (0, 1), "conv_transpose2d": (0, 1), "conv_transpose3d": (0, 1),
}  # fmt: skip


def int8_macs(model: nn.Module, *inputs: Any, **named: Any) -> dict[str, int]:
    """Multiply-accumulates of one call by the name of each int8 contraction."""
    assert isinstance(model, GraphModule)
    assert not named, "the interpreter takes positional arguments only"
    counter = _Counter(model)
    with torch.no_grad():
        counter.run(*inputs)
    return counter.macs


class _Counter(Interpreter):
    def __init__(self, model: GraphModule) -> None:
        super().__init__(model)
        self.macs: dict[str, int] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        name = _name(n)
        if name in _OPERANDS:
            operands = [n.args[i] for i in _OPERANDS[name]]
            if all(_is_dequantized(operand) for operand in operands):
                first, second = (self.env[operand] for operand in operands)
                transposed = name.startswith("conv_transpose") or (name == "convolution" and bool(n.args[6]))
                self.macs[n.name] = _macs(name, first, second, result, transposed)
        return result


def _name(node: Node) -> str:
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[1]
    # torchao writes some operators without an overload.
    return node.target.__name__ if isinstance(node.target, torch._ops.OpOverloadPacket) else ""


def _is_dequantized(operand: object) -> bool:
    while isinstance(operand, Node) and (_name(operand) in _MOVEMENT or operand.target is operator.getitem):
        operand = operand.args[0]
    return isinstance(operand, Node) and _name(operand).startswith("dequantize")


def _macs(name: str, first: Tensor, second: Tensor, result: Tensor, transposed: bool) -> int:
    if transposed:  # every input element meets all weights of its channel
        return first.numel() * math.prod(second.shape[1:])
    if name.startswith("conv"):  # every output element sums over the weights of its channel
        return result.numel() * math.prod(second.shape[1:])
    return result.numel() * first.shape[-1]


def pairs(model: GraphModule) -> tuple[int, int]:
    """How many quantize and how many dequantize nodes a model has, weights included."""
    names = [_name(node) for node in model.graph.nodes]
    quantize = sum(name.startswith("quantize") for name in names)
    return quantize, sum(name.startswith("dequantize") for name in names)


def weights(model: GraphModule) -> int:
    """How many integer tensors a model holds."""
    found = {
        node.args[0].target
        for node in model.graph.nodes
        if _name(node).startswith("dequantize") and isinstance(node.args[0], Node) and node.args[0].op == "get_attr"
    }
    return len(found)
