"""A small model with observers, watched and settled as ranges alone have it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from lower86 import X86Quantizer
from lower86.frontend import torchao
from lower86.frontend.export import export_float
from lower86.quantization.clip import settle_weights
from lower86.quantization.slots import Slot, slots_of, standing_in
from lower86.quantization.watch import Watch, run, watch

T = TypeVar("T")


def silent(items: Sequence[T], what: str) -> Iterator[T]:
    """Goes through a sequence, without a word."""
    yield from items


def prepared(model: nn.Module, call: Sequence[Any], quantizer: Any = None) -> GraphModule:
    """The model's own graph with observers that have seen nothing."""
    graph = copy.deepcopy(export_float(model.eval(), tuple(call), {}))
    return torchao.prepare(graph, X86Quantizer() if quantizer is None else quantizer)


def settled(
    model: nn.Module, calls: Sequence[Sequence[Any]], quantizer: Any = None
) -> tuple[GraphModule, Mapping[str, Watch]]:
    """The model's graph with all ranges from least and largest, and what was seen."""
    graph = prepared(model, calls[0], quantizer)
    with torch.no_grad():
        seen = watch(graph, slots_of(graph), calls, silent, 0)
    settle_weights(graph, clipped=False)
    for slot in slots_of(graph):
        if slot.name in seen:
            one = seen[slot.name]
            torchao.settle(slot.observer, torch.tensor(min(one.low, 0.0)), torch.tensor(max(one.high, 0.0)))
    return graph, seen


def floats(graph: GraphModule, *inputs: Tensor) -> list[Tensor]:
    """The float results, as if there were no observers."""
    observers = {name: nn.Identity() for name, module in graph.named_modules() if torchao.is_observer(module)}
    with standing_in(graph, observers), torch.no_grad():
        return [leaf for leaf in torch.utils._pytree.tree_leaves(run(graph, inputs)) if isinstance(leaf, Tensor)]


def slot_of(graph: GraphModule, kind: str, number: int = 0) -> Slot:
    """One of the slots of a kind, in order."""
    return [slot for slot in slots_of(graph) if slot.kind == kind][number]
