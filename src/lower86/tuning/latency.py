"""How long programs take: two in turns, for a ratio that a busy machine cannot bend; and each layer's part of one."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from ..graph.source import module_of
from ..lowered import LoweredModule
from ..quantization.calibration import Call
from ..report.profile import profile
from .layers import Layer

_TURN = 2e-3
_LEAST_ROUNDS = 9
_SECONDS, _MOST_SECONDS, _NEAR = 0.5, 3.0, 0.01
_WORDS = ("linear", "conv", "matmul", "mm", "attention", "embedding", "lstm", "gru")
"""What is in the names of the operators that contract or look up."""


def seconds_of(lowered: LoweredModule, call: Call) -> float:
    """The median seconds of a call."""
    take = _taker(lowered, call)
    return statistics.median(second for _ in range(_LEAST_ROUNDS) for second in take())


def ratio_of(lowered: LoweredModule, base: LoweredModule, call: Call) -> float:
    """How many times as long as `base` it takes: the median of the ratios of turns next to each other."""
    takers = [_taker(lowered, call), _taker(base, call)]
    ratios: list[float] = []
    start = time.perf_counter()
    while len(ratios) < _LEAST_ROUNDS or not _is_certain(ratios, time.perf_counter() - start):
        order = (0, 1) if len(ratios) % 2 else (1, 0)
        taken = {i: statistics.median(takers[i]()) for i in order}
        ratios.append(taken[0] / taken[1])
    return statistics.median(ratios)


def _is_certain(ratios: Sequence[float], seconds: float) -> bool:
    """Whether the median is known to a percent or so: after half a second in a quiet machine."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return seconds > _MOST_SECONDS or (seconds > _SECONDS and high - low < _NEAR * middle * math.sqrt(len(ratios)))


def _taker(lowered: LoweredModule, call: Call) -> Callable[[], list[float]]:
    """A function that takes a turn: some calls that count for nothing, then the seconds of each of some more."""
    calls = lowered.rehearse(call.args, call.kwargs)

    def one() -> float:
        calls.begin()
        start = time.perf_counter()
        calls.call()
        return time.perf_counter() - start

    one()
    count = min(100, max(3, math.ceil(_TURN / one())))

    def turn() -> list[float]:
        for _ in range(max(2, count // 3)):
            one()
        return [one() for _ in range(count)]

    return turn


def saved_seconds(
    whole: LoweredModule, floating: LoweredModule, layers: Sequence[Layer], call: Call
) -> Mapping[str, float]:
    """What int8 saves in each layer, by name: the time of its steps in the float program less that in the int8 one.

    Both are profiled in turns, twice.
    """
    programs = (floating, whole)
    turns = [[_parts(program, layers, call) for program in programs] for _ in range(2)]
    return {
        layer.name: statistics.mean(floats[layer.name] - integers[layer.name] for floats, integers in turns)
        for layer in layers
    }


def _parts(lowered: LoweredModule, layers: Sequence[Layer], call: Call) -> dict[str, float]:
    """Each layer's seconds. A step is that of the layers whose contractions it computes, or of its first node's."""
    products = {layer.module: layer.name for layer in layers if layer.kind == "products"}
    others = {layer.module: layer.name for layer in layers if layer.kind != "products"}
    nodes = {node.name: node for node in lowered.graph.nodes}
    shares: dict[str, dict[str, int]] = {}  # by node, each layer's multiply-accumulates: siblings are one node
    for record in lowered.explanation.operators:
        known = products if "matmul" in record.operator or "attention" in record.operator else others
        name = known.get(record.module) or others.get(record.module) or products.get(record.module)
        if name is not None:
            of_node = shares.setdefault(record.node, {})
            of_node[name] = of_node.get(name, 0) + max(record.macs, 1)

    def owners(label: str) -> dict[str, int]:
        names = [name for name in label.split(" + ") if name in nodes]
        for name in names:
            if name in shares:
                return shares[name]
        contractions = [name for name in names if any(word in str(nodes[name].target) for word in _WORDS)]
        for name in contractions or names[:1]:
            module = module_of(nodes[name])
            own = others.get(module) or products.get(module)
            if own is not None:
                return {own: 1}
        return {}

    seconds = dict.fromkeys((layer.name for layer in layers), 0.0)
    for step in profile(lowered, *call.args, seconds=0.4, **call.kwargs).steps:
        found = owners(step.label)
        for name, share in found.items():
            seconds[name] += step.seconds * share / sum(found.values())
    return seconds
