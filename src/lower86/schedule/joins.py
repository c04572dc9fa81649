"""Tensors put together in one buffer, each part copied to its place.

cat([x, y], dim)               ->  out[:, :3] = x;  out[:, 3:] = y
constant_pad_nd(x, pad, v)     ->  out[…] = v;      out[1:-1] = x
slice_scatter(x, y, dim, 2, 5) ->  out[…] = x;      out[:, 2:5] = y       and so on, as in `updates`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from .conditions import When
from .memory import Memory
from .rearranged import padding_of
from .symbols import DTYPE_NAMES, to_sizes
from .updates import UPDATES, indices_of
from .views import View, sliced

_A = torch.ops.aten


@dataclass(frozen=True)
class Join:
    """How the parts are written, and when that is known."""

    emit: Callable[[Memory, Node, View], None]
    when: When


def is_native_join(node: Node) -> bool:
    """Whether the node is put together of parts, all of dtypes that programs hold."""
    join = JOINS.get(node.target)
    if join is None:
        return False
    values = [node.meta.get("val"), *(n.meta.get("val") for n in node.all_input_nodes)]
    tensors = [value for value in values if not isinstance(value, torch.SymInt)]
    return all(isinstance(t, torch.Tensor) and t.dtype in DTYPE_NAMES for t in tensors) and join.when.holds(node)


def emit_join(memory: Memory, node: Node) -> None:
    """Adds the steps that write the parts."""
    whole = memory.store_of(node, DTYPE_NAMES[node.meta["val"].dtype], to_sizes(node.meta["val"].shape))
    JOINS[node.target].emit(memory, node, whole)


def _cat(memory: Memory, node: Node, whole: View) -> None:
    given = arguments(node)
    dim = given["dim"] % len(whole.shape)
    start = 0
    for number, part in enumerate(given["tensors"]):
        if part.meta["val"].dim() != len(whole.shape):
            continue  # an empty tensor of one dim joins anything, by an old courtesy of PyTorch's
        view = memory.view(part)
        place = sliced(whole, dim, start, 1, view.shape[dim])
        if view != place:  # else its own kernel has written it there
            memory.fill(view, place, f"{node.name}, part {number}")
        start = start + view.shape[dim]


def _pad(memory: Memory, node: Node, whole: View) -> None:
    given = arguments(node)
    view, place = memory.view(given["self"]), whole
    value = given["value"]
    for dim, (low, high) in padding_of(node).items():
        # What a negative number takes away is left out of the source, what a positive one adds out of the place.
        view = sliced(view, dim, max(-low, 0), 1, view.shape[dim] + min(low, 0) + min(high, 0))
        place = sliced(place, dim, max(low, 0), 1, view.shape[dim])
    memory.fill(0 if value is None else value, whole, f"{node.name}, all of it")
    memory.fill(view, place, f"{node.name}, inside")


def _updated(memory: Memory, node: Node, whole: View) -> None:
    indices_of(memory, node)  # before anything is written
    memory.fill(memory.view(arguments(node)["self"]), whole, f"{node.name}, all of it")
    UPDATES[node.target].write(memory, node, whole)


def _has_parts(node: Node) -> bool:
    """Tensors, and one of them of the result's rank."""
    parts = [part.meta.get("val") for part in arguments(node)["tensors"]]
    rank = node.meta["val"].dim()
    whole = [part for part in parts if isinstance(part, torch.Tensor) and part.dim() == rank]
    return bool(whole) and all(isinstance(p, torch.Tensor) and (p.dim() == rank or p.numel() == 0) for p in parts)


def _pads_with_a_number(node: Node) -> bool:
    given = arguments(node)
    known = all(isinstance(pad, int) for pads in padding_of(node).values() for pad in pads)
    number = given["value"] is None or isinstance(given["value"], (int, float))
    return known and number and given.get("mode", "constant") == "constant"


_PARTS = When("", _has_parts)
_NUMBERS = When("paddings and value are numbers", _pads_with_a_number)

JOINS: Mapping[Any, Join] = {
    _A.cat.default: Join(_cat, _PARTS),
    _A.constant_pad_nd.default: Join(_pad, _NUMBERS),
    _A.pad.default: Join(_pad, _NUMBERS),
    **{operator: Join(_updated, update.when) for operator, update in UPDATES.items()},
}
