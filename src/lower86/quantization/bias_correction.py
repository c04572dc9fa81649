"""Fast bias correction: what a layer's rounded operands add to the mean of each output channel is taken off its bias.

Each layer reads exact activations, so one run of the calibration inputs is enough for all (Nagel et al.,
arXiv:1906.04721, measured in place of derived; as NNCF's fast variant).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..counted import counted
from ..frontend import torchao
from ..frontend.contractions import CONVOLUTIONS, LINEARS, SPATIAL
from ..graph.arguments import arguments, function_of, is_call
from ..graph.edit import insert_constant, tensor_at
from .progress import Track
from .simulate import rounding
from .slots import standing_in
from .watch import fresh

_ADDMM = torch.ops.aten.addmm.default
_LAYERS = (*LINEARS, *CONVOLUTIONS, _ADDMM)
UNCORRECTED = "lower86_uncorrected"
"""In the metadata of a corrected bias: the name of the tensor before it, None for a layer that had no bias."""


def correct_biases(prepared: GraphModule, calls: Sequence[Sequence[Any]], track: Track) -> str:
    """Corrects all layers' biases, in place; a layer that has none gets one. Says how many."""
    rounds = rounding(prepared)
    with standing_in(prepared, {name: nn.Identity() for name in rounds}):
        both = _Both(prepared, rounds)
        for leaves in track(calls, "Correct biases"):
            both.run(*fresh(leaves), enable_io_processing=False)
    seen = {node: total / count for node, (total, count) in both.errors.items() if count}
    for node, error in seen.items():
        _correct(prepared, node, error)
    prepared.graph.lint()
    prepared.recompile()
    return counted(len(seen), "layer")


class _Both(torch.fx.Interpreter):
    """Runs the float graph, and beside each layer the rounded one on the same inputs."""

    def __init__(self, prepared: GraphModule, rounds: dict[str, nn.Module]) -> None:
        super().__init__(prepared)
        self._rounds = rounds
        self.errors: dict[Node, tuple[Tensor, int]] = {}

    def run_node(self, n: Node) -> Any:
        """Runs a node; of a layer, also adds up its error."""
        if not is_call(n, *_LAYERS) or not _can_have(n):
            return super().run_node(n)
        rounded = [self._rounded(operand) for operand in n.args]
        exact = super().run_node(n)
        error = function_of(n)(*rounded, **n.kwargs).to(torch.float64) - exact.to(torch.float64)
        channel = _channel(n, exact)
        moved = error.movedim(channel, 0)
        rows = moved.reshape(len(moved), moved.numel() // max(len(moved), 1))
        before, count = self.errors.get(n, (torch.zeros(len(rows), dtype=torch.float64), 0))
        self.errors[n] = before + rows.sum(1), count + rows.shape[1]
        return exact

    def _rounded(self, operand: Any) -> Any:
        if isinstance(operand, Node):
            value = self.env[operand]
            return self._rounds[str(operand.target)](value) if str(operand.target) in self._rounds else value
        return operand


def _channel(node: Node, output: Tensor) -> int:
    """The dim of a layer's output channels."""
    return output.dim() - SPATIAL.get(node.target, 0) - 1


def bias_place(node: Node) -> int:
    """The position of the bias."""
    return 0 if node.target is _ADDMM else 2


def _can_have(node: Node) -> bool:
    """Whether the node has a constant bias with a number for each channel, or none."""
    given = arguments(node)
    bias = given["self" if node.target is _ADDMM else "bias"]
    if node.target is _ADDMM and (given["beta"] != 1 or bias.meta["val"].dim() != 1):
        return False
    return bias is None or bias.op == "get_attr"


def _correct(prepared: GraphModule, node: Node, error: Tensor) -> None:
    if not bool(torch.isfinite(error).all()):
        return
    place = bias_place(node)
    bias: Any = node.args[place] if len(node.args) > place else node.kwargs.get("bias")
    tensor = tensor_at(prepared, str(bias.target)) if bias is not None else None
    dtype = tensor.dtype if tensor is not None else node.meta["val"].dtype
    new = (tensor.detach().to(torch.float64) if tensor is not None else 0.0) - error
    constant = insert_constant(prepared, node, new.to(dtype), "_corrected")
    constant.meta[UNCORRECTED] = str(bias.target) if bias is not None else None
    if bias is not None:
        torchao.annotate_instead(node, bias, constant)
    node.args = (*node.args[:place], constant, *node.args[place + 1 :])
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "bias"}
