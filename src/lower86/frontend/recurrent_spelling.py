"""A recurrent layer by other operators, the same whether it is called or put into a graph.

    x = linear(input, W_ih, b_ih)                      once for the whole sequence
    states, c = lower86::lstm(x, h0, c0, W_hh, b_hh)   for each layer and direction

A cell is a sequence of one step. Layers whose state is projected (`proj_size`), and dropout between layers in training,
are left to PyTorch's spelling, a graph of the operators of every step.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from ..ops.recurrent import gru, lstm

_A = torch.ops.aten
LAYERS = (_A.lstm.input, _A.gru.input)
CELLS = (_A.lstm_cell.default, _A.gru_cell.default)
_LSTMS = (_A.lstm.input, _A.lstm_cell.default)
_END = 2**63 - 1

Call = Callable[..., Any]
"""Calls an operator: on tensors, or to put it into a graph."""


def can_spell(target: Any, given: Mapping[str, Any]) -> bool:
    """Whether a layer or cell of these arguments, by their names in the schema, has this spelling."""
    if target in CELLS:
        return True
    directions = 2 if given["bidirectional"] else 1
    parameters = (4 if given["has_biases"] else 2) * given["num_layers"] * directions
    return len(given["params"]) == parameters and not (given["train"] and given["dropout"])


def spelled(call: Call, target: Any, given: Mapping[str, Any], options: Mapping[str, Any]) -> list[Any]:
    """The results, computed by `call`; `options` say how states are quantized."""
    hidden, cells = given["hx"] if target in _LSTMS else (given["hx"], None)
    if target in CELLS:
        parameters = [given[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        value = call(_A.unsqueeze.default, given["input"], 0)
        states, cell = _one(call, value, (hidden, cells), parameters, {"reverse": False, **options})
        return [result for result in (call(_A.select.int, states, 0, 1), cell) if result is not None]
    each = 4 if given["has_biases"] else 2
    value = given["input"]
    if given["batch_first"]:
        value = call(_A.transpose.int, value, 0, 1)
    last_hidden, last_cells, number = [], [], 0
    for _ in range(given["num_layers"]):
        results = []
        for reverse in (False, True) if given["bidirectional"] else (False,):
            parameters = [*given["params"][each * number : each * (number + 1)], None, None][:4]
            first = [None if state is None else call(_A.select.int, state, 0, number) for state in (hidden, cells)]
            states, cell = _one(call, value, first, parameters, {"reverse": reverse, **options})
            # The initial state is the first of the states, or in reverse the last.
            results.append(call(_A.slice.Tensor, states, 0, *((0, -1) if reverse else (1, _END))))
            last_hidden.append(call(_A.select.int, states, 0, 0 if reverse else -1))
            last_cells += [] if cell is None else [cell]
            number += 1
        value = results[0] if len(results) == 1 else call(_A.cat.default, results, -1)
    if given["batch_first"]:
        value = call(_A.transpose.int, value, 0, 1)
    return [value, *(call(_A.stack.default, last) for last in (last_hidden, last_cells) if last)]


def _one(
    call: Call, value: Any, first: Sequence[Any], parameters: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The states of one direction of one layer, and the last state of its cells."""
    (h0, c0), (w_ih, w_hh, b_ih, b_hh) = first, parameters
    x = call(_A.linear.default, value, w_ih, b_ih)
    if c0 is None:
        return call(gru, x, h0, w_hh, b_hh, **options), None
    both = call(lstm, x, h0, c0, w_hh, b_hh, **options)
    states, cell = (call(operator.getitem, both, i) for i in (0, 1)) if isinstance(both, Node) else both
    return states, cell


def decompositions(default: Mapping[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """For export's table: the same spelling, or that of the `default` table where there is none."""

    def decomposition(target: Any) -> Callable[..., Any]:
        names = [argument.name for argument in target._schema.arguments]

        def run(*args: Any) -> Any:
            given = dict(zip(names, args, strict=True))
            if can_spell(target, given) and given["input"].dtype == torch.float32:
                return tuple(spelled(lambda called, *a, **k: called(*a, **k), target, given, {}))
            return default[target](*args)

        return run

    return {target: decomposition(target) for target in LAYERS}
