"""Upsampling as reads at places known now.

    upsample_nearest(x)                 ->  x[:, :, i…]                               i = floor(out · scale)
    upsample_nearest(dequantize(q))     ->  dequantize(q[:, :, i…])
    upsample_bilinear(x)                ->  Σ w · x[:, :, i, j] over the four neighbours (linear: two, trilinear: eight)

Places and weights are PyTorch's, in float32: ATen/native/UpSample.h.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, shape_of, tensor_of
from ..graph.edit import insert, insert_constant, replace
from ..graph.qparams import is_whole_dequantize
from .precision import as_dtype

_A = torch.ops.aten


def spell_upsamples(module: GraphModule) -> None:
    """Rewrites upsampling between sizes that are known."""
    for node in list(module.graph.nodes):
        spell = UPSAMPLES.get(node.target) if node.op == "call_function" else None
        if spell is None or not all(isinstance(size, int) for size in (*shape_of(node)[2:], *_sizes(node))):
            continue
        replace(node, spell(module, node))


def _sizes(node: Node) -> tuple[Any, ...]:
    given = arguments(node)
    return shape_of(given["input"] if "input" in given else given["self"])[2:]


def _scales(node: Node) -> list[float]:
    """Input elements for each output element, a dim: of the factor given, or else of the sizes."""
    given = arguments(node)
    factors = given.get("scale_factors") or [given.get(f"scales_{d}") for d in "dhw"[3 - len(_sizes(node)) :]]
    if len(_sizes(node)) == 1 and "scales" in given:
        factors = [given["scales"]]
    pairs = zip(_sizes(node), shape_of(node)[2:], strict=True)
    ratios = [_float32(size / out) for size, out in pairs]
    return [_float32(1.0 / f) if f else ratio for f, ratio in zip(factors, ratios, strict=True)]


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def _nearest(module: GraphModule, node: Node) -> Node:
    places = []
    for scale, size, out in zip(_scales(node), _sizes(node), shape_of(node)[2:], strict=True):
        places.append((torch.arange(out).to(torch.float32) * scale).to(torch.int64).clamp(max=size - 1))
    x: Any = node.args[0]
    if not is_whole_dequantize(x):
        return _read(module, node, x, places)
    integers = _read(module, node, x.args[0], places)
    return insert(node, x.target, (integers, *x.args[1:]), dict(x.kwargs), like=x)


def _linear(module: GraphModule, node: Node) -> Node:
    given = arguments(node)
    sides = []  # a dim: the lower and the upper neighbours, each with its weight
    for scale, size, out in zip(_scales(node), _sizes(node), shape_of(node)[2:], strict=True):
        index = torch.arange(out).to(torch.float32)
        if given["align_corners"]:
            at = index * (_float32((size - 1) / (out - 1)) if out > 1 else 0.0)
        else:
            at = (scale * (index + 0.5) - 0.5).clamp(min=0)
        low = at.to(torch.int64).clamp(max=size - 1)
        upper = at - low
        sides.append(((low, 1 - upper), ((low + 1).clamp(max=size - 1), upper)))
    x: Any = node.args[0]
    total: Node | None = None
    for corner in itertools.product(*sides):
        weight = torch.ones(())
        for _, part in corner:
            weight = weight.unsqueeze(-1) * part
        exact = torch.float64 if tensor_of(x).dtype == torch.float64 else torch.float32
        factor = insert_constant(module, node, weight.to(exact), "_weights")
        read = _read(module, node, x, [place for place, _ in corner])
        term = insert(node, _A.mul.Tensor, (read, factor), like=node)
        total = term if total is None else insert(node, _A.add.Tensor, (total, term), like=node)
    assert total is not None
    return as_dtype(node, total, tensor_of(x).dtype)


def _read(module: GraphModule, node: Node, x: Node, places: Sequence[Tensor]) -> Node:
    """x at a place for each index of each spatial dim."""
    indices: list[Node | None] = [None, None]
    for dim, place in enumerate(places):
        shape = [-1, *[1] * (len(places) - 1 - dim)]
        indices.append(insert_constant(module, node, place.reshape(shape), "_places"))
    return insert(node, _A.index.Tensor, (x, indices), like=node)


UPSAMPLES: Mapping[Any, Callable[[GraphModule, Node], Node]] = {
    _A.upsample_nearest1d.default: _nearest,
    _A.upsample_nearest1d.vec: _nearest,
    _A.upsample_nearest2d.default: _nearest,
    _A.upsample_nearest2d.vec: _nearest,
    _A.upsample_nearest3d.default: _nearest,
    _A.upsample_nearest3d.vec: _nearest,
    _A.upsample_linear1d.default: _linear,
    _A.upsample_linear1d.vec: _linear,
    _A.upsample_bilinear2d.default: _linear,
    _A.upsample_bilinear2d.vec: _linear,
    _A.upsample_trilinear3d.default: _linear,
    _A.upsample_trilinear3d.vec: _linear,
}
"""How each is spelled, by nodes before it."""
