"""What a recurrent layer does in one time step, as an FX graph of its own for the scheduler to emit.

r = linear(fed, weight, bias);   gates = slices of x and r;   state, cell, fed = …
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..graph.edit import example
from ..ops.linear import int8_linear
from ..ops.quantize import quantize_static
from ..ops.recurrent import INTEGER, LSTMS, RECURRENCES, state_dtype

_A = torch.ops.aten


@dataclass(frozen=True)
class TimeStep:
    """The product, and what follows from it: the new values of "state", "cell" (of an LSTM) and "fed"."""

    product: Node
    results: Mapping[str, Node]


def is_native_recurrence(node: Node) -> bool:
    """Whether a loop of kernels computes this node: all is float32 but the weight."""
    if not is_call(node, *RECURRENCES):
        return False
    operands = [arguments(node).get(name) for name in ("x", "h0", "c0", "bias")]
    return all(tensor_of(operand).dtype == torch.float32 for operand in operands if operand is not None)


def fed_dtype(node: Node) -> torch.dtype | None:
    """The dtype of what the product reads in place of the state; None if that is the state itself."""
    if is_call(node, *INTEGER):
        return state_dtype(arguments(node)["h_low"])
    return None if arguments(node)["h_scale"] is None else torch.float32


def quantized(node: Node, state: Node) -> Node:
    """What the product reads: the state's integers, or what they stand for."""
    given = arguments(node)
    scale, zero_point, low, high = (given[name] for name in ("h_scale", "h_zero_point", "h_low", "h_high"))
    integers = _call(quantize_static, state, scale, zero_point, low, high, state_dtype(low))
    if is_call(node, *INTEGER):
        return integers
    steps = _call(_A.sub.Tensor, _call(_A._to_copy.default, integers, dtype=torch.float32), zero_point)
    return _call(_A.mul.Tensor, steps, scale)


def time_step(node: Node, read: Mapping[str, Node]) -> TimeStep:
    """The step of the recurrence `node`, from what it reads: "x", "state", "fed", "weight" and so on."""
    if is_call(node, *INTEGER):
        options = {"x_zero_point": arguments(node)["h_zero_point"], "scale": read["scale"]}
        product = _call(int8_linear, read["fed"], read["weight"], read.get("bias"), **options)
    else:
        product = _call(_A.linear.default, read.get("fed", read["state"]), read["weight"], read.get("bias"))
    results: dict[str, Node] = {}
    if is_call(node, *LSTMS):
        results["state"], results["cell"] = _lstm(read["x"], product, read["cell"])
    else:
        results["state"] = _gru(read["x"], product, read["state"])
    if "fed" in read:
        results["fed"] = quantized(node, results["state"])
    return TimeStep(product, results)


def _call(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    graph: Graph = args[0].graph
    node = graph.call_function(target, args, kwargs)
    node.meta["val"] = example(node)
    return node


def _parts(gates: Node, count: int) -> Iterator[Node]:
    width = tensor_of(gates).shape[-1] // count
    return (_call(_A.slice.Tensor, gates, 1, i * width, (i + 1) * width) for i in range(count))


def _lstm(x: Node, product: Node, cell: Node) -> tuple[Node, Node]:
    i, f, g, o = (_call(_A.add.Tensor, a, b) for a, b in zip(_parts(x, 4), _parts(product, 4), strict=True))
    kept = _call(_A.mul.Tensor, _call(_A.sigmoid.default, f), cell)
    cell = _call(_A.add.Tensor, kept, _call(_A.mul.Tensor, _call(_A.sigmoid.default, i), _call(_A.tanh.default, g)))
    return _call(_A.mul.Tensor, _call(_A.sigmoid.default, o), _call(_A.tanh.default, cell)), cell


def _gru(x: Node, product: Node, state: Node) -> Node:
    (xr, xz, xn), (hr, hz, hn) = _parts(x, 3), _parts(product, 3)
    r, z = (_call(_A.sigmoid.default, _call(_A.add.Tensor, a, b)) for a, b in ((xr, hr), (xz, hz)))
    n = _call(_A.tanh.default, _call(_A.add.Tensor, xn, _call(_A.mul.Tensor, r, hn)))
    return _call(_A.add.Tensor, _call(_A.mul.Tensor, _call(_A.sub.Tensor, state, n), z), n)
