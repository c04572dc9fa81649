"""Recurrent layers: a loop over two kernels, the product of the state and all that follows it.

    for t:   r = linear(fed, weight, bias)                                  a contraction: [B, G·H] = [B, H] x [H, G·H]
             states[t + 1], c, fed = cell(x[t], r, states[t], c)            one pointwise kernel over [B, H]

Both are emitted from the graph of one time step (`cells.py`), and a `Loop` of the program repeats them: x and states
begin a step further each time, all else stays where it is. So one program serves every length, threads part batch rows
and gate columns, and a step costs two regions. `fed` is what the product reads: the state, or its integers.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch.fx import Graph, Node

from ..graph.arguments import arguments, is_call, tensor_of
from ..ops.recurrent import LSTMS
from ..program.dtypes import DTYPES
from ..program.sizes import Size
from .cells import fed_dtype, quantized, time_step
from .grouping import Group
from .kernels import emit_group
from .memory import Memory
from .symbols import DTYPE_NAMES, to_sizes
from .views import MOVEMENT, View, contiguous, indexed


def emit_recurrence(memory: Memory, node: Node) -> None:
    """Adds the steps that prepare the state, and the loop."""
    given = arguments(node)
    x, h0 = _sequence(memory, node), memory.view(given["h0"])
    count = x.shape[0]
    start, first, then = (count - 1, count, count - 1) if given["reverse"] else (0, 0, 1)
    states = _states(memory, node, (count + 1, *h0.shape))
    places = {"x": indexed(x, 0, start), "state": indexed(states, 0, first)}
    memory.copy(h0, places["state"], f"{node.name}, initial state")
    dtype = fed_dtype(node)
    if dtype is not None:
        places["fed"] = _buffer(memory, DTYPE_NAMES[dtype], h0.shape)
        _quantize(memory, node, h0, places["fed"])
    if is_call(node, *LSTMS):
        places["cell"] = _buffer(memory, "f32", h0.shape)
        memory.copy(memory.view(given["c0"]), places["cell"], f"{node.name}, initial cell")
        for user in node.users:
            assert user.target is operator.getitem
            number = user.args[1]
            assert isinstance(number, int)
            memory.views[user] = (states, places["cell"])[number]

    if count == 0:
        return
    begin, checks = len(memory.plan.steps), dict(memory.plan.checks)
    _emit_step(memory, node, places, {**places, "state": indexed(states, 0, then)})
    memory.plan.checks = checks  # what the first step reads is there, or there is no first step
    sign = -1 if given["reverse"] else 1
    strides = {view.value: view.strides[0] * (sign * DTYPES["f32"].size) for view in (x, states)}
    memory.plan.loop(begin, count, strides, node.name)


def _sequence(memory: Memory, node: Node) -> View:
    """x, in a value of its own: what else the loop reads of a value would move on with it."""
    given = arguments(node)
    x = memory.view(given["x"])
    others = [given.get(name) for name in ("weight", "bias", "scale")]
    computed = [memory.view(operand) for operand in others if operand is not None and operand.op != "get_attr"]
    shared = any(view.value == x.value for view in computed)
    return memory.packed(x, f"copy for {node.name}") if shared else x


def _states(memory: Memory, node: Node, shape: tuple[Size, ...]) -> View:
    return _buffer(memory, "f32", shape) if is_call(node, *LSTMS) else memory.store_of(node, "f32", shape)


def _buffer(memory: Memory, dtype: str, shape: tuple[Size, ...]) -> View:
    return contiguous(memory.plan.value(dtype, shape), dtype, shape)


def _quantize(memory: Memory, node: Node, h0: View, place: View) -> None:
    """A step that writes what the first product reads."""
    graph = Graph()
    state = _placeholder(memory, graph, h0, tensor_of(arguments(node)["h0"]))
    result = quantized(node, state)
    memory.views[result] = place
    graph.output(result)
    emit_group(memory, _pointwise(graph))


def _emit_step(memory: Memory, node: Node, places: Mapping[str, View], results: Mapping[str, View]) -> None:
    """The steps of one time: it reads from `places`, and writes to `results`."""
    given, graph = arguments(node), Graph()
    x, h0 = tensor_of(given["x"]), tensor_of(given["h0"])
    examples = {"x": x.new_empty(x.shape[1:]), "fed": h0.to(fed_dtype(node) or h0.dtype)}
    read = {name: _placeholder(memory, graph, view, examples.get(name, h0)) for name, view in places.items()}
    for name in ("weight", "bias", "scale"):
        operand = given.get(name)
        if operand is not None and operand.op == "get_attr":
            read[name] = graph.node_copy(operand)
        elif operand is not None:
            read[name] = _placeholder(memory, graph, memory.view(operand), tensor_of(operand))
    step = time_step(node, read)
    for name, result in step.results.items():
        memory.views[result] = results[name]
    graph.output(tuple(step.results.values()))
    shape = to_sizes(tensor_of(step.product).shape)
    emit_group(memory, Group(0, "anchor", step.product, [step.product], shape))
    emit_group(memory, _pointwise(graph, without=step.product))


def _placeholder(memory: Memory, graph: Graph, view: View, value: torch.Tensor) -> Node:
    node = graph.placeholder(f"x{len(graph.nodes)}")
    node.meta["val"] = value
    memory.views[node] = view
    return node


def _pointwise(graph: Graph, without: Node | None = None) -> Group:
    """All that the graph computes, but for movement and one node, as one group."""
    nodes = [n for n in graph.nodes if n.op == "call_function" and n.target not in MOVEMENT and n is not without]
    return Group(0, "pointwise", None, nodes, to_sizes(tensor_of(nodes[-1]).shape))
