"""Dequantize moves down past movement, quantize moves up: integers flow, and both stand beside what computes.

    reshape(dequantize(q))    ->  dequantize(reshape(q))       quantize(reshape(x))  ->  reshape(quantize(x))
    permute(dequantize(w))    ->  dequantize(permute(w))       with the axis moved along
    cat of dequantizes alike  ->  dequantize(cat(q…))          quantize(cat(x…))    ->  cat(quantize(x)…)
    pad(dequantize(q), 0)     ->  dequantize(pad(q, zero))     quantize(pad(x, 0))  ->  pad(quantize(x), zero)

A dequantize moves only if the movement is its only user, and then each of the movement's users gets one of its own; a
quantize only if it is the movement's only user.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, order_of, same_shape, same_size, shape_of, source_of, tensor_of
from ..graph.edit import insert, replace
from ..graph.qparams import (
    is_dequantize,
    is_plain_quantize,
    is_quantize,
    is_row_dequantize,
    is_whole_dequantize,
    qparams_of,
    same,
)

_A = torch.ops.aten
MOVEMENT = (_A.reshape.default, _A.permute.default, _A.expand.default, _A.slice.Tensor)
"""Those of `graph.movement.VIEWS` that integers flow through."""


def move_dequantize(module: GraphModule) -> None:
    """Moves every dequantize as far down, and every quantize as far up, as movement goes."""
    for node in list(module.graph.nodes):
        moves = is_call(node, *MOVEMENT) or _pads_zeros(node)
        if moves and is_dequantize(node.args[0]) and len(node.args[0].users) == 1:
            _sink(module, node, node.args[0])
        elif is_call(node, _A.cat.default):
            _sink_all(module, node)
    for node in list(module.graph.nodes):
        if is_quantize(node) and qparams_of(module, node).axis is None:
            _hoist(module, node)


def _sink(module: GraphModule, move: Node, dequantize: Node) -> None:
    axis = qparams_of(module, dequantize).axis
    kwargs: dict[str, Any] = dict(dequantize.kwargs)
    rest = list(dequantize.args[1:])
    if is_row_dequantize(dequantize):
        if not is_call(move, _A.reshape.default) or not _keeps_rows(move):
            return
        shape: Any = move.args[1]
        rows = [*shape[:-1], 1]
        rest[:2] = [insert(move, _A.reshape.default, (parameter, rows), like=dequantize) for parameter in rest[:2]]
    if is_call(move, _A.constant_pad_nd.default):
        zero = _zero(module, dequantize)
        if zero is None:
            return
        move.args = (*move.args[:2], zero)  # of what is inserted below
    if axis is not None:
        if not is_call(move, _A.permute.default):
            return
        rest[list(arguments(dequantize)).index("axis") - 1] = order_of(move).index(axis)
    source = dequantize.args[0]
    quantized = insert(move, move.target, (source, *move.args[1:]), dict(move.kwargs), like=move)
    for user in list(move.users):  # a dequantize of its own for each, which may sink further
        own = insert(move, dequantize.target, (quantized, *rest), kwargs, like=dequantize, value=move.meta["val"])
        user.replace_input_with(move, own)
    move.graph.erase_node(move)


def _keeps_rows(reshape: Node) -> bool:
    return same_shape(shape_of(reshape)[-1:], shape_of(source_of(reshape))[-1:])


def _pads_zeros(node: Node) -> bool:
    """Whether the node puts zeros around its operand."""
    if not is_call(node, _A.constant_pad_nd.default):
        return False
    given = arguments(node)
    return given["value"] == 0 and all(isinstance(pad, int) and pad >= 0 for pad in given["pad"])


def _zero(module: GraphModule, node: Node) -> int | None:
    """The integer that stands for 0.0 in a quantize or dequantize of a whole tensor, if there is one."""
    if not (is_plain_quantize(node) or is_whole_dequantize(node)):
        return None
    parameters = qparams_of(module, node)
    zero = parameters.zero_point
    return zero if isinstance(zero, int) and parameters.low <= zero <= parameters.high else None


def _sink_all(module: GraphModule, cat: Node) -> None:
    """Joins integers in place of what they stand for, where all stand for it alike."""
    given = arguments(cat)
    parts = given["tensors"]
    if not all(is_whole_dequantize(part) for part in parts) or len(set(parts)) < len(parts):
        return
    first = qparams_of(module, parts[0])
    if not all(same(first, qparams_of(module, part)) and len(part.users) == 1 for part in parts):
        return
    if any(tensor_of(part).dtype != tensor_of(cat).dtype for part in parts):
        return
    joined = insert(cat, cat.target, ([source_of(part) for part in parts], given["dim"]), like=cat)
    for user in list(cat.users):
        args, kwargs = (joined, *parts[0].args[1:]), dict(parts[0].kwargs)
        own = insert(cat, parts[0].target, args, kwargs, like=parts[0], value=cat.meta["val"])
        user.replace_input_with(cat, own)
    cat.graph.erase_node(cat)


def _hoist_over(quantize: Node, cat: Node) -> None:
    """Quantizes the parts of a concatenation in place of the whole; each may be fused with what gives it."""
    given = arguments(cat)

    def quantized(part: Node) -> Node:
        return insert(cat, quantize.target, (part, *quantize.args[1:]), dict(quantize.kwargs), like=quantize)

    replace(quantize, insert(quantize, cat.target, ([quantized(p) for p in given["tensors"]], given["dim"]), like=cat))
    cat.graph.erase_node(cat)


def _hoist(module: GraphModule, quantize: Node) -> None:
    while len(source_of(quantize).users) == 1:
        move: Any = quantize.args[0]
        if is_call(move, _A.cat.default) and is_plain_quantize(quantize):
            if any(tensor_of(part).dtype != tensor_of(move).dtype for part in move.all_input_nodes):
                return
            _hoist_over(quantize, move)
            return
        if _pads_zeros(move):
            zero = _zero(module, quantize)
            if zero is None:
                return
            move.args = (*move.args[:2], zero)
        elif not _is_rearrangement(move):
            return  # an expand or a slice: quantizing first would do other work
        earlier = insert(
            move, quantize.target, (move.args[0], *quantize.args[1:]), dict(quantize.kwargs), like=quantize
        )
        moved = insert(quantize, move.target, (earlier, *move.args[1:]), dict(move.kwargs), like=move)
        replace(quantize, moved)
        move.graph.erase_node(move)  # its last user is gone; left behind, it would hold back the next move
        quantize = earlier


def _is_rearrangement(move: Node) -> bool:
    """Whether the result surely has as many elements as what is moved."""
    if is_call(move, _A.reshape.default, _A.permute.default):
        return True
    return is_call(move, *MOVEMENT) and same_shape(_beyond_one(move), _beyond_one(source_of(move)))


def _beyond_one(node: Node) -> list[Any]:
    return [size for size in shape_of(node) if not same_size(size, 1)]


def unshare_dequantize(module: GraphModule) -> None:
    """Gives every user a dequantize of its own, so that a rule may take it in; integers cost nothing to share."""
    for node in list(module.graph.nodes):
        if not is_dequantize(node):
            continue
        for user in list(node.users)[1:]:
            copy = insert(node, node.target, node.args, dict(node.kwargs), like=node, value=node.meta["val"])
            user.replace_input_with(node, copy)
