"""Where a prepared graph is quantized: each observer, the calls of it, and who reads what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.fx import GraphModule, Node

from ..frontend import torchao
from ..frontend.contractions import CONVOLUTIONS, LINEARS, PRODUCTS, SPATIAL
from ..graph.edit import tensor_at
from . import state

Kind = Literal["weight", "linear", "convolution", "other"]


@dataclass(frozen=True)
class Slot:
    """One observer, which several values may share; `name` is that of its first call's module."""

    name: str
    observer: Any
    calls: tuple[Node, ...]

    @property
    def source(self) -> Node:
        """The (first) value."""
        source = self.calls[0].args[0]
        assert isinstance(source, Node)
        return source

    @property
    def readers(self) -> list[Node]:
        """Who reads the values quantized."""
        return [user for call in self.calls for user in call.users]

    @property
    def kind(self) -> Kind:
        """What the value is read by; a "weight" is a parameter or a buffer, whoever reads it."""
        if self.source.op == "get_attr":
            return "weight"
        readers = self.readers
        if readers and all(reads_rows(reader, call) for call in self.calls for reader in call.users):
            return "linear"
        return "convolution" if readers and all(reader.target in CONVOLUTIONS for reader in readers) else "other"

    @property
    def spatial(self) -> int:
        """The number of dims behind the channels of what a linear (0) or a convolution reads."""
        return SPATIAL.get(self.readers[0].target, 0)


def reads_rows(reader: Node, call: Node) -> bool:
    """Whether `reader` is a linear, however it is spelled: rows of what `call` gives times a constant matrix."""
    if reader.target in LINEARS:
        return reader.args[0] is call
    left, right = PRODUCTS.get(reader.target, (0, 0))
    if left == right or reader.args[left] is not call:
        return False
    weight: Any = reader.args[right]
    source = weight.args[0] if weight.op == "call_module" else weight
    return source.op == "get_attr" and _rank(source) == 2


def _rank(node: Node) -> int:
    return int(node.meta["val"].dim())


def slots_of(prepared: GraphModule) -> list[Slot]:
    """All places where a range fixes scales, in the order of the graph."""
    found: dict[int, list[Node]] = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and torchao.is_range_observer(prepared.get_submodule(str(node.target))):
            found.setdefault(id(prepared.get_submodule(str(node.target))), []).append(node)
    modules = ((prepared.get_submodule(str(calls[0].target)), calls) for calls in found.values())
    return [Slot(str(calls[0].target), module, tuple(calls)) for module, calls in modules]


def weight_of(prepared: GraphModule, slot: Slot) -> torch.Tensor:
    """The tensor of a "weight" slot."""
    tensor = tensor_at(prepared, str(slot.source.target))
    assert tensor is not None
    return tensor.detach()


@contextmanager
def standing_in(prepared: GraphModule, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """The graph with other modules in place of some of its own, by name; afterwards with its own again.

    Afterwards its state is what it was, too: the buffers that it writes to when it runs.
    """
    before = {name: prepared.get_submodule(name) for name in modules}
    held = state.held(prepared)
    try:
        for name, module in modules.items():
            prepared.set_submodule(name, module)
        yield
    finally:
        for name, own in before.items():
            prepared.set_submodule(name, own)
        state.restore(prepared, state.changed(prepared, held))
