"""Recurrent layers spelled out, so that what they multiply can be quantized, and a kernel step serves every time.

    lstm(input, h0, c0)  ->  x = linear(input, W_ih, b_ih)                      once for the whole sequence
                             states, c = lower86::lstm(x, h0, c0, W_hh, b_hh)   for each layer and direction

`torch.export` keeps `nn.LSTM` and `nn.GRU` as one operator each, `aten.lstm.input` and `aten.gru.input`; so do
torchao's quantizers, which leave them float. The decomposition of PyTorch's own table is a graph of the operators of
every step: 64 steps took 8 s to export and lower, for one length of the sequence only. Loops over cells that a model
spells out itself arrive like that, and are linears like any others.

Layers whose state is projected (`proj_size`), and dropout between layers in training, are left to PyTorch's spelling.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32
from ..graph.edit import insert, replace_results
from ..ops.recurrent import gru, lstm
from .configuration import Integers, QuantizationConfig
from .memory import Memory

_A = torch.ops.aten
RECURRENT = (_A.lstm.input, _A.gru.input)
_MARK = "lower86_recurrence"

Call = Callable[..., Any]
"""Calls an operator: on tensors, or to put it into a graph."""


def recurrent_operator(node: Node) -> Any:
    """The recurrent layer whose part the node is, or that it is itself; None for any other."""
    return node.target if is_call(node, *RECURRENT) else node.meta.get(_MARK)


def spell_recurrent(module: GraphModule, config_of: Callable[[Node], QuantizationConfig | None]) -> None:
    """Spells out every recurrent layer that is to be quantized, if it can be.

    With "dynamic" the integers of a state stand for [-1, 1] at once: no other state follows from one in there.
    """
    for node in list(module.graph.nodes):
        if not is_call(node, *RECURRENT) or not can_spell(arguments(node)) or not _is_float32(node):
            continue
        config = config_of(node)
        if config is not None and config.mode != "qat":
            target, options = node.target, _fixed(config.activations) if config.mode == "dynamic" else {}

            def call(called: Any, *args: Any, node: Node = node, target: Any = target, **kwargs: Any) -> Node:
                made = insert(node, called, args, kwargs, like=node)
                made.meta[_MARK] = target
                return made

            replace_results(node, spelled(call, node.target, arguments(node), options))


def _fixed(integers: Integers) -> dict[str, Any]:
    low, high = integers.low, integers.high
    zero_point = 0 if integers.symmetric else (high + 1) // 2
    scale = 1 / high if integers.symmetric else 2 / (high - low)
    return {"h_scale": scale, "h_zero_point": zero_point, "h_low": low, "h_high": high}


def _is_float32(node: Node) -> bool:
    return all(is_float32(operand) for operand in node.all_input_nodes)


@dataclass(frozen=True)
class Recurrence:
    """One direction of one layer that can be quantized: its weight, and the node of its states."""

    weight: Node
    states: Node


def recurrence_of(node: Node, memory: Memory) -> Recurrence | None:
    """The recurrence that `node` computes in float32 with a constant weight; None for any other node."""
    if not is_call(node, lstm, gru):
        return None
    weight = arguments(node)["weight"]
    if not (is_float32(weight) and memory.is_constant(weight)):
        return None
    if is_call(node, gru):
        return Recurrence(weight, node)
    states = [user for user in node.users if user.args[1] == 0]
    return Recurrence(weight, states[0]) if len(states) == 1 else None


def can_spell(given: Mapping[str, Any]) -> bool:
    """Whether a layer of these arguments, by their names in the schema, has this spelling."""
    directions = 2 if given["bidirectional"] else 1
    parameters = (4 if given["has_biases"] else 2) * given["num_layers"] * directions
    return len(given["params"]) == parameters and not (given["train"] and given["dropout"])


def spelled(call: Call, target: Any, given: Mapping[str, Any], options: Mapping[str, Any]) -> list[Any]:
    """The layer's results, computed by `call`; `options` say how states are quantized."""
    is_lstm = target is _A.lstm.input
    hidden, cells = given["hx"] if is_lstm else (given["hx"], None)
    each = 4 if given["has_biases"] else 2
    value = given["input"]
    if given["batch_first"]:
        value = call(_A.transpose.int, value, 0, 1)
    last_hidden, last_cells, number = [], [], 0
    for _ in range(given["num_layers"]):
        results = []
        for reverse in (False, True) if given["bidirectional"] else (False,):
            w_ih, w_hh, *biases = given["params"][each * number : each * (number + 1)]
            b_ih, b_hh = biases or (None, None)
            x = call(_A.linear.default, value, w_ih, b_ih)
            h0 = call(_A.select.int, hidden, 0, number)
            if is_lstm:
                both = call(lstm, x, h0, call(_A.select.int, cells, 0, number), w_hh, b_hh, reverse=reverse, **options)
                states, cell = _parts(call, both)
                last_cells.append(cell)
            else:
                states = call(gru, x, h0, w_hh, b_hh, reverse=reverse, **options)
            # The initial state is the first of the states, or in reverse the last.
            results.append(call(_A.slice.Tensor, states, 0, *((0, -1) if reverse else (1, _END))))
            last_hidden.append(call(_A.select.int, states, 0, 0 if reverse else -1))
            number += 1
        value = results[0] if len(results) == 1 else call(_A.cat.default, results, -1)
    if given["batch_first"]:
        value = call(_A.transpose.int, value, 0, 1)
    return [value, *(call(_A.stack.default, last) for last in (last_hidden, last_cells) if last)]


_END = 2**63 - 1


def _parts(call: Call, both: Any) -> Sequence[Any]:
    return [call(operator.getitem, both, i) for i in (0, 1)] if isinstance(both, Node) else both


def decompositions(default: Mapping[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """For export's table: the same spelling, or that of the `default` table where there is none."""

    def decomposition(target: Any) -> Callable[..., Any]:
        names = [argument.name for argument in target._schema.arguments]

        def run(*args: Any) -> Any:
            given = dict(zip(names, args, strict=True))
            if can_spell(given) and given["input"].dtype == torch.float32:
                return tuple(spelled(lambda called, *a, **k: called(*a, **k), target, given, {}))
            return default[target](*args)

        return run

    return {target: decomposition(target) for target in RECURRENT}
