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

from ..frontend.contractions import CONVOLUTIONS, LINEARS
from ..graph.arguments import arguments, function_of, is_call
from ..graph.edit import insert_constant, tensor_at
from .progress import Track
from .simulate import rounding
from .slots import standing_in

_SPATIAL = {target: int(str(target).partition("d.")[0][-1]) for target in CONVOLUTIONS}
"""The number of spatial dims of each convolution, which its name says."""
_LAYERS = (*LINEARS, *CONVOLUTIONS)
UNCORRECTED = "lower86_uncorrected"
"""In the metadata of a corrected bias: the name of the tensor before it, None for a layer that had no bias."""


def correct_biases(prepared: GraphModule, calls: Sequence[Sequence[Any]], track: Track) -> str:
    """Corrects all layers' biases, in place; a layer that has none gets one. Says how many."""
    rounds = rounding(prepared)
    with standing_in(prepared, {name: nn.Identity() for name in rounds}):
        both = _Both(prepared, rounds)
        for leaves in track(calls, "Correct biases"):
            both.run(*leaves, enable_io_processing=False)
    for node, (total, count) in both.errors.items():
        _correct(prepared, node, total / count)
    prepared.graph.lint()
    prepared.recompile()
    return f"{len(both.errors)} layers"


class _Both(torch.fx.Interpreter):
    """Runs the float graph, and beside each layer the rounded one on the same inputs."""

    def __init__(self, prepared: GraphModule, rounds: dict[str, nn.Module]) -> None:
        super().__init__(prepared)
        self._rounds = rounds
        self.errors: dict[Node, tuple[Tensor, int]] = {}

    def run_node(self, n: Node) -> Any:
        """Runs a node; of a layer, also adds up its error."""
        if not is_call(n, *_LAYERS):
            return super().run_node(n)
        rounded = [self._rounded(operand) for operand in n.args]
        exact = super().run_node(n)
        error = (function_of(n)(*rounded, **n.kwargs) - exact).to(torch.float64).movedim(_channel(n, exact), 0)
        before, count = self.errors.get(n, (torch.zeros(len(error), dtype=torch.float64), 0))
        self.errors[n] = before + error.flatten(1).sum(1), count + error[0].numel()
        return exact

    def _rounded(self, operand: Any) -> Any:
        if isinstance(operand, Node):
            value = self.env[operand]
            return self._rounds[str(operand.target)](value) if str(operand.target) in self._rounds else value
        return operand


def _channel(node: Node, output: Tensor) -> int:
    """The dim of a layer's output channels."""
    if node.target in LINEARS:
        return output.dim() - 1
    spatial = _SPATIAL[node.target]
    return output.dim() - spatial - 1


def _correct(prepared: GraphModule, node: Node, error: Tensor) -> None:
    given = arguments(node)
    bias = given["bias"]
    if bias is not None and bias.op != "get_attr":
        return
    tensor = tensor_at(prepared, str(bias.target)) if bias is not None else None
    dtype = tensor.dtype if tensor is not None else node.meta["val"].dtype
    new = (tensor.detach().to(torch.float64) if tensor is not None else 0.0) - error
    constant = insert_constant(prepared, node, new.to(dtype), "_corrected")
    constant.meta[UNCORRECTED] = str(bias.target) if bias is not None else None
    changed = [*node.args[:2], constant, *node.args[3:]]
    node.args = tuple(changed)
