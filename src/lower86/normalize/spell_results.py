"""Operators with several results, as an operator for each result that somebody uses.

max(x, dim), min(x, dim)    ->  amax(x, [dim]), argmax(x, dim)             aminmax  ->  amin, amax
var_mean(x, dims)           ->  var(x, dims), mean(x, dims)                std_mean ->  std, mean
log_sigmoid_forward(x)      ->  log_sigmoid(x)                             _log_softmax  ->  log_softmax
native_dropout(x, p, False) ->  clone(x), ones_like(x)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..graph.edit import insert, replace

_A = torch.ops.aten


def spell_results(module: GraphModule) -> None:
    """Rewrites every result of the operators in `RESULTS`; those that nobody uses go away."""
    for node in list(module.graph.nodes):
        if is_call(node, _A._log_softmax.default) and not arguments(node)["half_to_float"]:
            given = arguments(node)
            softmax = insert(node, _A.log_softmax.int, (given["self"], given["dim"]), like=node)
            replace(node, softmax)
        spell = RESULTS.get(node.target) if node.op == "call_function" else None
        if spell is None or tensor_of(node.args[0]).dtype == torch.bool or tensor_of(node.args[0]).dim() == 0:
            continue
        for user in list(node.users):
            if user.target is not operator.getitem:
                continue
            number = user.args[1]
            assert isinstance(number, int)
            found = spell(node, arguments(node))[number]
            if found is not None:
                target, args, kwargs = found
                replace(user, insert(user, target, args, kwargs, like=node, value=user.meta["val"]))


_Call = tuple[Any, tuple[Any, ...], dict[str, Any]]
_Calls = Callable[[Node, dict[str, Any]], tuple[_Call | None, ...]]


def _extreme(value: Any, place: Any) -> _Calls:
    def spell(node: Node, given: dict[str, Any]) -> tuple[_Call | None, ...]:
        x, dim, keep = given["self"], given["dim"], given["keepdim"]
        return (value, (x, [dim], keep), {}), (place, (x, dim, keep), {})

    return spell


def _both_extremes(node: Node, given: dict[str, Any]) -> tuple[_Call | None, ...]:
    dims = [] if given["dim"] is None else [given["dim"]]
    operands = (given["self"], dims, given["keepdim"])
    return (_A.amin.default, operands, {}), (_A.amax.default, operands, {})


def _spread_and_mean(spread: Any) -> _Calls:
    def spell(node: Node, given: dict[str, Any]) -> tuple[_Call | None, ...]:
        x, dims, keep = given["self"], given["dim"], given["keepdim"]
        correction = {"correction": given["correction"], "keepdim": keep}
        return (spread, (x, dims), correction), (_A.mean.dim, (x, dims, keep), {})

    return spell


def _log_sigmoid(node: Node, given: dict[str, Any]) -> tuple[_Call | None, ...]:
    return (_A.log_sigmoid.default, (given["self"],), {}), None


def _dropout(node: Node, given: dict[str, Any]) -> tuple[_Call | None, ...]:
    if given["train"] is not False:
        return None, None
    return (_A.clone.default, (given["input"],), {}), (_A.ones_like.default, (given["input"],), {"dtype": torch.bool})


RESULTS: Mapping[Any, _Calls] = {
    _A.max.dim: _extreme(_A.amax.default, _A.argmax.default),
    _A.min.dim: _extreme(_A.amin.default, _A.argmin.default),
    _A.aminmax.default: _both_extremes,
    _A.var_mean.correction: _spread_and_mean(_A.var.correction),
    _A.std_mean.correction: _spread_and_mean(_A.std.correction),
    _A.log_sigmoid_forward.default: _log_sigmoid,
    _A.native_dropout.default: _dropout,
}
"""For each result, the operator that gives it and its arguments, or None if there is none."""
