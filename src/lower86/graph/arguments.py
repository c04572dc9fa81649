"""A node's arguments by the names of the operator's schema, defaults filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node


def is_call(node: object, *targets: Any) -> bool:
    """Whether `node` is an FX node that calls one of `targets`."""
    return isinstance(node, Node) and node.op == "call_function" and node.target in targets


def function_of(node: Node) -> Callable[..., Any]:
    """What a call calls."""
    assert callable(node.target), f"{node} is no call of a function"
    return node.target


def is_pure(node: Node) -> bool:
    """Whether the node calls an operator that gives the same for the same arguments, and changes none of them."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
        return False
    return torch.Tag.nondeterministic_seeded not in target.tags


def arguments(node: Node) -> dict[str, Any]:
    """Every argument of an operator call by its schema name, whether given by position, by name, or not at all."""
    assert isinstance(node.target, torch._ops.OpOverload)
    found: dict[str, Any] = {}
    for position, parameter in enumerate(node.target._schema.arguments):
        if position < len(node.args) and not parameter.kwarg_only:
            found[parameter.name] = node.args[position]
        elif parameter.name in node.kwargs:
            found[parameter.name] = node.kwargs[parameter.name]
        elif parameter.has_default_value():
            found[parameter.name] = parameter.default_value
    return found


def value_of(node: Node) -> Any:
    """The example (fake) value that export recorded for a node, or None."""
    return node.meta.get("val")


def tensor_of(node: Node) -> torch.Tensor:
    """The example tensor of a node that gives one."""
    value = value_of(node)
    assert isinstance(value, torch.Tensor), f"{node} is no tensor"
    return value


def is_float32(node: Node) -> bool:
    """Whether the node gives a float32 tensor, and not, say, a size."""
    value = value_of(node)
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def is_float(node: Node) -> bool:
    """Whether the node gives a tensor of floats that are computed in float32: those, bfloat16 or float16."""
    value = value_of(node)
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.bfloat16, torch.float16)


def shape_of(node: Node) -> tuple[Any, ...]:
    """The (perhaps symbolic) shape of a node's tensor."""
    return tuple(tensor_of(node).shape)


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes are equal in every call; never decided by the example's own sizes."""
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    return bool(a.node.expr == b.node.expr)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal in every call."""
    return len(a) == len(b) and all(map(same_size, a, b))


def broadcasts_to(shape: Sequence[Any], whole: Sequence[Any]) -> bool:
    """Whether a tensor of `shape` can be read as one of the shape `whole`, in every call."""
    if len(shape) > len(whole):
        return False
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    return all(same_size(size, 1) or same_size(size, wanted) for size, wanted in pairs)


def source_of(node: Node) -> Node:
    """The first operand, a node: what a movement moves, a quantize quantizes."""
    source = node.args[0]
    assert isinstance(source, Node)
    return source


def order_of(permute: Node) -> list[int]:
    """The dims of a permute, counted from the front."""
    dims: Any = permute.args[1]
    return [dim % len(dims) for dim in dims]
