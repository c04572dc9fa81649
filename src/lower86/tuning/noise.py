"""The error that each layer's rounding alone adds to the outputs: the cheap measure of who is to be suspected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.edit import tensor_at
from ..quantization import state
from ..quantization.bias_correction import UNCORRECTED
from ..quantization.simulate import rounding
from ..quantization.slots import standing_in
from .layers import Layer

MOST_CALLS = 6
"""So many of the inputs are run for each layer."""


class Noises:
    """Runs a settled prepared graph in float, but for one layer that reads rounded values."""

    def __init__(self, prepared: GraphModule, calls: Sequence[Sequence[Any]]) -> None:
        self._prepared = prepared
        self._calls = calls[:: max(1, len(calls) // MOST_CALLS)][:MOST_CALLS]
        self._rounds = rounding(prepared)
        self._exact: list[list[Tensor]] | None = None

    def of(self, layer: Layer) -> float:
        """SQNR in dB of the outputs; each counts by its own size."""
        identities = {name: nn.Identity() for name in self._rounds}
        before = state.held(self._prepared)
        with torch.no_grad(), standing_in(self._prepared, identities):
            if self._exact is None:
                self._exact = list(self._outputs(frozenset()))
            rounded = self._outputs(frozenset(layer.nodes))
            shares = [_share(*pair) for pair in zip(rounded, self._exact, strict=True)]
            state.restore(self._prepared, state.changed(self._prepared, before))
        share = sum(shares) / len(shares)
        return -10 * math.log10(share) if share > 0 else math.inf

    def _outputs(self, nodes: frozenset[str]) -> Iterator[list[Tensor]]:
        for leaves in self._calls:
            run = _Alone(self._prepared, self._rounds, nodes)
            yield _floats(run.run(*leaves, enable_io_processing=False))


class _Alone(torch.fx.Interpreter):
    def __init__(self, prepared: GraphModule, rounds: dict[str, nn.Module], nodes: frozenset[str]) -> None:
        super().__init__(prepared)
        self._rounds, self._nodes = rounds, nodes

    def run_node(self, n: Node) -> Any:
        """Runs a node; those of the layer on rounded operands, all others with the bias they had in float."""
        if n.op != "call_function":
            return super().run_node(n)
        stand_ins: dict[Node, Any] = {}
        for operand in n.all_input_nodes:
            if n.name in self._nodes and str(operand.target) in self._rounds:
                stand_ins[operand] = self._rounds[str(operand.target)](self.env[operand])
            elif n.name not in self._nodes and UNCORRECTED in operand.meta:
                stand_ins[operand] = self._float_bias(operand)
        before = {operand: self.env[operand] for operand in stand_ins}
        self.env.update(stand_ins)
        try:
            return super().run_node(n)
        finally:
            self.env.update(before)

    def _float_bias(self, bias: Node) -> Tensor | None:
        target = bias.meta[UNCORRECTED]
        assert isinstance(self.module, GraphModule)
        return None if target is None else tensor_at(self.module, str(target))


def _floats(results: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(results)
    return [leaf.to(torch.float64) for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _share(got: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The power of the error as a share of the outputs' own; that of a value which is no number counts as 1."""
    parts = []
    for value, wanted in zip(got, exact, strict=True):
        finite = torch.isfinite(wanted)
        error, power = (value - wanted)[finite].square(), float(wanted[finite].square().sum())
        if power:
            parts.append(float(torch.where(error.isfinite(), error, wanted[finite].square()).sum()) / power)
    return sum(parts) / len(parts) if parts else 0.0
