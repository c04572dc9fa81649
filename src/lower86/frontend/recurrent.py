"""Recurrent layers and cells spelled out, so that what they multiply can be quantized; and what of it is quantized.

    lstm(input, h0, c0)  ->  states, c = lower86::lstm(linear(input, W_ih, b_ih), h0, c0, W_hh, b_hh)

`torch.export` keeps `nn.LSTM`, `nn.GRU` and their cells as one operator each, `aten.lstm.input` and so on, with the
length of the sequence fixed; packed sequences it refuses. torchao's quantizers leave these operators float. Where a
caller has had them decomposed, 64 steps are 64 linears (8 s to lower), which torchao's quantizer for x86 passes over,
too, and this one quantizes each. `nn.RNN` stays float, and is lowered by PyTorch's decomposition, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float32
from ..graph.edit import insert, replace, replace_results
from ..ops.recurrent import gru, lstm
from .configuration import Integers, QuantizationConfig
from .memory import Memory
from .recurrent_spelling import CELLS, LAYERS, can_spell, spelled

RECURRENT = (*LAYERS, *CELLS)
_MARK = "lower86_recurrence"


def recurrent_operator(node: Node) -> Any:
    """The recurrent layer or cell whose part the node is, or that it is itself; None for any other."""
    return node.target if is_call(node, *RECURRENT) else node.meta.get(_MARK)


def spell_recurrent(module: GraphModule, config_of: Callable[[Node], QuantizationConfig | None]) -> None:
    """Spells out every recurrent layer and cell that is to be quantized, if it can be.

    With "dynamic" the integers of a state stand for [-1, 1] at once: no other state follows from one in there.
    """
    for node in list(module.graph.nodes):
        if not is_call(node, *RECURRENT) or not can_spell(node.target, arguments(node)) or not _is_float32(node):
            continue
        config = config_of(node)
        if config is not None and config.mode != "qat":
            target, options = node.target, _fixed(config.activations) if config.mode == "dynamic" else {}

            def call(called: Any, *args: Any, node: Node = node, target: Any = target, **kwargs: Any) -> Node:
                made = insert(node, called, args, kwargs, like=node)
                made.meta[_MARK] = target
                return made

            results = spelled(call, node.target, arguments(node), options)
            if isinstance(node.meta["val"], torch.Tensor):
                replace(node, results[0])
            else:
                replace_results(node, results)


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
