"""A graph as text to read and compare: operators, shapes, dtypes and rounded numbers, never weights.

    x: f32[3, 8]
    %0: u8[3, 8] = quantize_per_tensor(x, 0.02058, 118, 0, 255, u8)
    %1: f32[3, 16] = lower86::int8_linear(%0, i8[16, 8], f32[16], x_zero_point=118, scale=f32[16])
    return %1

A constant stands as its type, state as its name; writes to it stand before the result. What does not matter to the
result does not show: values are numbered and symbolic sizes named d0, d1, … as they appear, and operations stand in the
order in which the result needs them.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .arguments import value_of
from .state import is_state, is_write

_DTYPES = {
    torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip
_SYMBOL = re.compile(r"[su]\d+")


def text_of(module: GraphModule) -> str:
    """The graph of `module`, one operation a line: inputs, what the result needs, the result, and what nobody needs."""
    printer = _Printer()
    return "".join(f"{line}\n" for node in _ordered(module) for line in printer.lines(node))


def _ordered(module: GraphModule) -> list[Node]:
    nodes = list(module.graph.nodes)
    order = dict.fromkeys(node for node in nodes if node.op == "placeholder")
    ends = [*(node for node in nodes if is_write(node)), *(node for node in nodes if node.op == "output")]
    for end in (*ends, *nodes):
        stack = [(end, iter(end.all_input_nodes))]
        while stack:
            node, waiting = stack[-1]
            following = next((n for n in waiting if n not in order), None)
            if following is not None:
                stack.append((following, iter(following.all_input_nodes)))
                continue
            order.setdefault(node)
            stack.pop()
    return list(order)


class _Printer:
    """Gives values and symbolic sizes their names as they come."""

    def __init__(self) -> None:
        self._names: dict[Node, str] = {}
        self._sizes: dict[str, str] = {}
        self._count = 0

    def lines(self, node: Node) -> list[str]:
        """The node's line; constants have none."""
        if node.op == "get_attr":
            known = value_of(node) is not None and not is_state(node)
            self._names[node] = self._type(value_of(node)) if known else str(node.target)
            return []
        if node.op == "output":
            return [f"return {self._value(node.args[0])}"]
        if node.op == "placeholder":
            self._names[node] = str(node.target)
            return [f"{node.target}: {self._type(value_of(node))}"]
        call = self._call(node)
        if not node.users:
            return [call]
        self._names[node] = f"%{self._count}"
        self._count += 1
        return [f"{self._names[node]}: {self._type(value_of(node))} = {call}"]

    def _call(self, node: Node) -> str:
        given = [self._value(argument) for argument in node.args]
        given += [f"{name}={self._value(node.kwargs[name])}" for name in _keywords(node)]
        return f"{_operator(node)}({', '.join(given)})"

    def _type(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{_DTYPES.get(value.dtype, str(value.dtype))}[{', '.join(self._size(s) for s in value.shape)}]"
        if isinstance(value, (tuple, list)):
            return f"({', '.join(self._type(item) for item in value)})"
        return type(value).__name__

    def _size(self, size: Any) -> str:
        return _SYMBOL.sub(lambda m: self._sizes.setdefault(m[0], f"d{len(self._sizes)}"), str(size))

    def _value(self, argument: Any) -> str:
        if isinstance(argument, Node):
            return self._names[argument]
        if isinstance(argument, (tuple, list)):
            return f"[{', '.join(self._value(item) for item in argument)}]"
        if isinstance(argument, float):
            return f"{argument:.4g}"
        if isinstance(argument, torch.dtype):
            return _DTYPES.get(argument, str(argument))
        return str(argument)


def _operator(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).removeprefix("aten::").removeprefix("quantized_decomposed::")
    return str(getattr(node.target, "__name__", node.target))


def _keywords(node: Node) -> list[str]:
    """The names of the node's keyword arguments, in the order of the schema."""
    schema = getattr(node.target, "_schema", None)
    declared = [argument.name for argument in schema.arguments] if schema is not None else []
    return sorted(node.kwargs, key=lambda name: declared.index(name) if name in declared else len(declared))
