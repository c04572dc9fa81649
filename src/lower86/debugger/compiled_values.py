"""The values that the compiled program wrote, for places of the quantized graph, or where they stay if nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..errors import Lower86Error
from ..graph.arguments import arguments, is_call
from ..graph.qparams import is_plain_quantize
from ..lowered import LoweredModule
from ..ops.conv import int8_conv
from ..ops.linear import int8_linear
from ..ops.matmul import int8_matmul
from .capture import captured
from .join import lowered_nodes
from .observed import Observed
from .places import Place, is_quantize, reshapes_of

_A = torch.ops.aten
_SCALED = (int8_conv, int8_linear, int8_matmul, _A.relu.default, _A.clamp.default, _A.add.Tensor)


class CompiledValues:
    """Runs the program once, on these inputs, with a state of its own that begins as `state`."""

    def __init__(
        self,
        quantized: GraphModule,
        lowered: LoweredModule,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        state: Mapping[str, Tensor],
    ) -> None:
        compiled = lowered.compiled()
        self._scheduled = compiled.scheduled
        self._nodes = lowered_nodes(quantized, lowered)
        known = {node for nodes in self._nodes.values() for node in nodes}
        _require_kinship(lowered, known)
        self._values = captured(compiled, known, args, kwargs, [tensor.clone() for tensor in state.values()])
        self._made: dict[str, Node] = {}

    def of(self, places: Sequence[Place], seen: Observed) -> dict[str, Tensor]:
        """By place, what memory held: integers or floats, whichever the quantized graph has there in `seen`."""
        found: dict[str, Tensor] = {}
        for place in places:
            wanted = seen.values.get(place.name)
            for node in reversed(self._nodes.get(place.name, ()) if wanted is not None else ()):
                value = self._values.get(node.name)
                arranged = None if value is None or wanted is None else _arranged(place, value, wanted, seen)
                if arranged is not None:
                    found[place.name] = arranged
                elif wanted is None or not _may_be(node, wanted):
                    continue
                self._made[place.name] = node  # those before it only lead there
                break
        factors = self._factors(places)
        for name, node in self._made.items():
            if node in factors and name in found:
                found[name] = found[name] * factors[node]
        return found

    def kernel_of(self, place: Place, places: Sequence[Place]) -> str:
        """For a place whose value is in no memory: which place's kernel has it in registers; "" if none does."""
        step = self._step(place.name)
        for other in places:
            if step is not None and self._is_held(other.name) and self._step(other.name) == step:
                return other.name
        by_node = {node: other for other in places for node in (other.quantize or other.source,)}
        seen, waiting = {place.source}, [*(place.quantize or place.source).users]
        while waiting:
            node = waiting.pop(0)
            if node in by_node and self._is_held(by_node[node].name):
                return node.name
            if node not in seen:
                seen.add(node)
                waiting += node.users
        return ""

    def _is_held(self, name: str) -> bool:
        return name in self._made and self._made[name].name in self._values

    def _step(self, name: str) -> int | None:
        return self._scheduled.step_of.get(self._made[name].name) if name in self._made else None

    def _factors(self, places: Sequence[Place]) -> dict[Node, float]:
        """The scales of nodes that the lowered graph counts in steps of the quantize that reads them."""
        factors: dict[Node, float] = {}
        for place in places:
            node = self._made.get(place.name)
            if place.quantize is None or node is None or not is_plain_quantize(node):
                continue
            if not is_plain_quantize(place.quantize) or arguments(node)["scale"] == arguments(place.quantize)["scale"]:
                continue
            waiting = [node.args[0]]
            while waiting:
                scaled = waiting.pop()
                if isinstance(scaled, Node) and is_call(scaled, *_SCALED) and len(scaled.users) == 1:
                    factors[scaled] = float(arguments(place.quantize)["scale"])
                    if not is_call(scaled, int8_conv, int8_linear, int8_matmul):
                        waiting += scaled.args
        return factors


def _arranged(place: Place, value: Tensor, wanted: Tensor, seen: Observed) -> Tensor | None:
    """The program's value as the quantized graph has it at the place; None if it is no such value.

    Lowering quantizes before a movement where the model does after it: so the model's own movements are done to it.
    """
    if value.dtype != wanted.dtype:
        return None
    if value.shape == wanted.shape:
        return value
    ways = []
    for number, move in enumerate(place.moves):
        before = seen.values.get(move.all_input_nodes[0].name)
        if before is not None and before.shape == value.shape:
            moved = value
            for step in place.moves[number:]:
                moved = seen.functions[step.name](moved)
            ways.append(moved)
    after = [seen.values[node.name].shape for node in reshapes_of(place.source) if node.name in seen.values]
    if value.shape in after or [n for n in value.shape if n != 1] == [n for n in wanted.shape if n != 1]:
        ways.append(value.reshape(wanted.shape))
    ways = [way for way in ways if way.shape == wanted.shape]
    return min(ways, key=lambda way: float((way.double() - wanted.double()).abs().sum()), default=None)


def _may_be(node: Node, wanted: Tensor) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() != wanted.dim() or value.dtype != wanted.dtype:
        return False
    return all(not isinstance(a, int) or a == b for a, b in zip(value.shape, wanted.shape, strict=True))


def _require_kinship(lowered: LoweredModule, known: set[Node]) -> None:
    """Raises Lower86Error unless most of what is int8 in the lowered graph was made from nodes of the quantized one."""
    calls = [node for node in lowered.graph.nodes if node.op == "call_function"]
    int8 = [node for node in calls if is_quantize(node) or getattr(node.target, "namespace", "") == "lower86"]
    asked = int8 or calls
    if asked and sum(node in known for node in asked) * 2 < len(asked):
        raise Lower86Error(
            "the lowered module was not made from this quantized one: their nodes have nothing in common",
            where="compare(model_fp32, quantized, lowered, inputs)",
            fix="pass the very module that was given to lower_pt2e_quantized_to_x86, or a copy of it",
        )
