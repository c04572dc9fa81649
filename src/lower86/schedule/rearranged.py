"""Movement that strides cannot say, as reads at indices computed from the result's own.

    flip        out[i] = x[n-1-i]                   roll      out[i] = x[i < s ? i+n-s : i-s]
    reflect     out[i] = x[n-1-|n-1-|i-low||]       replicate out[i] = x[min(max(i-low, 0), n-1)]
    circular    out[i] = x[(i-low) mod n]

Along the dims that stay, elements are read as they lie, many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.dtypes import computed
from .conditions import When
from .emission import Axis, Emission, Space
from .scalars import At, Elementwise, Scalar, where
from .views import View

_A = torch.ops.aten


def read_at(
    e: Emission,
    view: View,
    space: Space,
    own: Mapping[int, Axis],
    places: Mapping[int, int],
    wraps: bool = False,
) -> int:
    """The view's element: dim d is at own[d], or at the index node places[d]."""
    bounds = tuple((view.strides[dim], view.shape[dim]) for dim in places)
    attrs = (*e.access(view, space, own), bounds, wraps)
    return e.cast(e.body.add("gather", tuple(places.values()), view.dtype, attrs), computed(view.dtype))


def _rearranged(name: str, source: Callable[[At, View], Mapping[int, Scalar]]) -> Callable[..., int]:
    """Reads operand `name`, along some dims at the indices that `source` gives, along all others at the result's."""

    def emit(e: Emission, node: Node, space: Space) -> int:
        at = At(e, node, space)
        view = e.view(at.number(name))
        places = {dim: place.node for dim, place in source(at, view).items()}
        own = {d: space.axes[d] for d in range(len(view.shape)) if d not in places}
        return read_at(e, view, space, own, places)

    return emit


def _flip(at: At, view: View) -> Mapping[int, Scalar]:
    rank = len(view.shape)
    dims = [dim % rank for dim in at.number("dims")]
    return {dim: at.extent(view.shape[dim]) - 1 - at.index(dim) for dim in dims}


def _roll(at: At, view: View) -> Mapping[int, Scalar]:
    total: dict[int, int] = {}
    for dim, shift in zip(at.number("dims"), at.number("shifts"), strict=True):
        total[dim % len(view.shape)] = total.get(dim % len(view.shape), 0) + shift
    places = {}
    for dim, shift in total.items():
        size = view.shape[dim]
        assert isinstance(size, int)
        index, shift = at.index(dim), shift % max(size, 1)
        places[dim] = where(index < shift, index + (size - shift), index - shift)
    return places


def _reflected(index: Scalar, last: Scalar) -> Scalar:
    return last - abs(last - abs(index))


def _replicated(index: Scalar, last: Scalar) -> Scalar:
    return index.at_least(0).at_most(last)


def _wrapped(index: Scalar, last: Scalar) -> Scalar:
    size = last + 1
    return where(index < 0, index + size, where(index > last, index - size, index))


_MODES: Mapping[str, Callable[[Scalar, Scalar], Scalar]] = {
    "reflect": _reflected, "replicate": _replicated, "circular": _wrapped,
}  # fmt: skip


def padding_of(node: Node) -> Mapping[int, tuple[Any, Any]]:
    """How much is added before and after each dim; PyTorch lists the last dim first."""
    given = arguments(node)
    rank = node.meta["val"].dim()
    pads: Sequence[Any] = given.get("pad", given.get("padding", ()))
    return {rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}


def _padded(mode: str = "") -> Callable[[At, View], Mapping[int, Scalar]]:
    def source(at: At, view: View) -> Mapping[int, Scalar]:
        rule = _MODES[mode or at.number("mode")]
        places = {}
        for dim, (low, high) in padding_of(at.node).items():
            if low or high:
                places[dim] = rule(at.index(dim) - low, at.extent(view.shape[dim]) - 1)
        return places

    return source


def _rolls_known_dims(node: Node) -> bool:
    given = arguments(node)
    shape = node.meta["val"].shape
    known = all(isinstance(number, int) for number in (*given["shifts"], *given["dims"]))
    return bool(given["dims"]) and known and all(isinstance(shape[dim], int) for dim in given["dims"])


def _pads_forward(node: Node) -> bool:
    known = all(isinstance(pad, int) and pad >= 0 for pads in padding_of(node).values() for pad in pads)
    return known and arguments(node).get("mode", "reflect") in _MODES


_KNOWN = When("dims given, of fixed sizes", _rolls_known_dims)
_FORWARD = When("adds elements, takes none away", _pads_forward)
_DIMS = When("", lambda node: bool(node.meta["val"].dim() > 0))

REARRANGED: Mapping[Any, Elementwise] = {
    _A.flip.default: Elementwise(_rearranged("self", _flip), _DIMS),
    _A.roll.default: Elementwise(_rearranged("self", _roll), _KNOWN),
    _A.pad.default: Elementwise(_rearranged("self", _padded()), _FORWARD),
    **{getattr(_A, f"{name}_pad{d}d").default: Elementwise(_rearranged("self", _padded(mode)), _FORWARD)
       for name, mode in (("reflection", "reflect"), ("replication", "replicate")) for d in (1, 2, 3)},
}  # fmt: skip
"""Operators that move elements, by where each comes from."""
