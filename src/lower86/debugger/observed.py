"""A graph run node by node in PyTorch: what its nodes give, and, if asked, other values in place of some of them.

With the values that another run had in place of a node's own, whatever follows it computes from those: so a difference
is that of one layer, and not what all layers before it have added up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.pytrees import signature_of

_OBSERVER = "activation_post_process"  # PT2E's name of what only watches


@dataclass
class Observed:
    """By node name: the values of nodes, and what nodes make of another first argument, all others as in this call."""

    values: dict[str, Tensor] = field(default_factory=dict)
    functions: dict[str, Callable[[Any], Any]] = field(default_factory=dict)


def observe(
    module: GraphModule,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    wanted: Collection[str],
    functions: Collection[str] = (),
    instead: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Observed:
    """What the nodes named `wanted` give in a call, and those in `functions` do; it changes nothing of the module.

    A node in `instead` gives that to its readers, unless memory that it shares is written to; buffers named in `state`
    begin with that.
    """
    run = _Run(module, set(wanted), set(functions), dict(instead or {}), dict(state or {}))
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        run.run(*signature_of(module.graph).flatten(args, kwargs), enable_io_processing=False)
    return run.found


class _Run(torch.fx.Interpreter):
    def __init__(
        self,
        module: GraphModule,
        wanted: set[str],
        functions: set[str],
        instead: dict[str, Tensor],
        state: dict[str, Tensor],
    ) -> None:
        super().__init__(module)
        self.found = Observed()
        self._wanted, self._functions, self._instead, self._state = wanted, functions, instead, state
        self._shared = written_to(module.graph)
        self._buffers: dict[str, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self._functions:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            assert callable(n.target)
            self.found.functions[n.name] = partial(_with_first, n.target, args[1:], kwargs)
        if not isinstance(value, Tensor):
            return value
        if n.name in self._wanted:
            self.found.values[n.name] = value.detach().clone() if self._shared else value.detach()
        other = self._instead.get(n.name)
        if other is None or n in self._shared or other.shape != value.shape:
            return value
        return other.to(value.dtype).clone() if self._shared else other.to(value.dtype)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().placeholder(target, args, kwargs)
        return value.clone() if self._shared and isinstance(value, Tensor) else value

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        if not self._shared or not isinstance(value, Tensor):
            return value
        if target not in self._buffers:
            first = self._state.get(target, value)
            self._buffers[target] = (first if first.shape == value.shape else value).detach().clone()
        return self._buffers[target]

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target == "_guards_fn":
            return None
        if _OBSERVER in target:
            return args[0]
        return super().call_module(target, args, kwargs)


def _with_first(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], first: Tensor) -> Any:
    return function(first, *args, **kwargs)


def written_to(graph: torch.fx.Graph) -> set[Node]:
    """The nodes whose memory some node of the graph writes to, by whatever name; none in a functional graph."""
    same: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while node in same:
            node = same[node]
        return node

    written: list[Node] = []
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        for position, parameter in enumerate(node.target._schema.arguments):
            given = node.args[position] if position < len(node.args) else node.kwargs.get(parameter.name)
            if parameter.alias_info is None or not isinstance(given, Node):
                continue
            if parameter.alias_info.is_write:
                written.append(given)
            if find(node) is not find(given):
                same[find(node)] = find(given)
    roots = {find(node) for node in written}
    return {node for node in graph.nodes if find(node) in roots}
