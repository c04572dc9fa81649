"""Movement of movement: what is a reshape, a permute, an expand, a slice or a flip in disguise.

repeat(x, [1, 3])          ->  reshape(expand(reshape(x, [a, 1, b]), [a, 3, b]), [a, 3b])
pixel_shuffle(x, r)        ->  reshape(permute(reshape(x, [n, c, r, r, h, w])), [n, c, hr, wr])      and back
channel_shuffle(x, g)      ->  reshape(permute(reshape(x, [n, g, c, …])), [n, gc, …])
im2col(x, k, d, p, s)      ->  reshape(permute(slice(unfold(slice(unfold(pad(x)))))), [n, c·k·k, …])
col2im(x, [h, w], k)       ->  reshape(permute(reshape(x, [n, c, k, k, h/k, w/k])), [n, c, h, w])      side by side
rot90(x, k, dims)          ->  permute(flip(x))
roll(x, s)                 ->  reshape(roll(reshape(x, [-1]), s, 0))
glu(x, dim)                ->  mul(slice(x), sigmoid(slice(x)))
select_scatter(x, y, d, i) ->  slice_scatter(x, reshape(y), d, i, i + 1)
copy(x, y)                 ->  expand(y)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, shape_of, tensor_of
from ..graph.edit import insert, replace
from .shapes import quotient, size_at, sizes_of, times

_A = torch.ops.aten


def spell_layout(module: GraphModule) -> None:
    """Rewrites every operator of `LAYOUTS` whose arguments are known."""
    for node in list(module.graph.nodes):
        spell = LAYOUTS.get(node.target) if node.op == "call_function" else None
        if spell is not None:
            by = spell(node)
            if by is not None:
                replace(node, by)


class _Before:
    """Makes calls before a node, with its metadata."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __call__(self, target: Any, *args: Any) -> Node:
        return insert(self.node, target, args, like=self.node)

    def permuted(self, x: Node, order: list[int]) -> Node:
        return self(_A.permute.default, x, order)

    def reshaped(self, x: Node, shape: list[Any]) -> Node:
        return self(_A.reshape.default, x, shape)


def _repeat(node: Node) -> Node:
    call, given = _Before(node), arguments(node)
    x, repeats = given["self"], list(given["repeats"])
    sizes = [1] * (len(repeats) - len(shape_of(x))) + sizes_of(node, x)
    apart: list[Any] = []
    spread: list[Any] = []
    merged: list[Any] = []
    for size, repeat in zip(sizes, repeats, strict=True):
        alone = isinstance(repeat, int) and repeat == 1
        if alone or (isinstance(size, int) and size == 1):
            apart.append(size)
            spread.append(size if alone else repeat)
        else:
            apart += [1, size]
            spread += [repeat, size]
        merged.append(times(node, repeat, size))
    return call.reshaped(call(_A.expand.default, call.reshaped(x, apart), spread), merged)


def _pixel_shuffle(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x, r = given["self"], given["upscale_factor"]
    *leading, channels, height, width = sizes_of(node, x)
    if not isinstance(channels, int):
        return None
    n, c = len(leading), channels // r**2
    apart = call.reshaped(x, [*leading, c, r, r, height, width])
    moved = call.permuted(apart, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return call.reshaped(moved, [*leading, c, times(node, height, r), times(node, width, r)])


def _pixel_unshuffle(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x, r = given["self"], given["downscale_factor"]
    *leading, channels, height, width = sizes_of(node, x)
    if not isinstance(channels, int):
        return None
    n, (rows, columns) = len(leading), (quotient(node, size, r) for size in (height, width))
    apart = call.reshaped(x, [*leading, channels, rows, r, columns, r])
    moved = call.permuted(apart, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
    return call.reshaped(moved, [*leading, channels * r**2, rows, columns])


def _channel_shuffle(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x, groups = given["self"], given["groups"]
    batch, channels, *spatial = sizes_of(node, x)
    if not isinstance(channels, int):
        return None
    apart = call.reshaped(x, [batch, groups, channels // groups, *spatial])
    moved = call.permuted(apart, [0, 2, 1, *range(3, 3 + len(spatial))])
    return call.reshaped(moved, [batch, channels, *spatial])


def _im2col(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x = given["self"]
    if len(shape_of(x)) != 4:
        return None
    (top, left), channels = given["padding"], size_at(node, x, 1)
    if top or left:
        x = call(_A.constant_pad_nd.default, x, [left, left, top, top], 0)
    for dim in (0, 1):
        reach = (given["kernel_size"][dim] - 1) * given["dilation"][dim] + 1
        x = call(_A.unfold.default, x, 2 + dim, reach, given["stride"][dim])
        if given["dilation"][dim] != 1:
            x = call(_A.slice.Tensor, x, 4 + dim, 0, reach, given["dilation"][dim])
    batch, _, rows, columns, kernel_height, kernel_width = sizes_of(node, x)
    moved = call.permuted(x, [0, 1, 4, 5, 2, 3])
    patch = times(node, channels, kernel_height * kernel_width)
    return call.reshaped(moved, [batch, patch, times(node, rows, columns)])


def _col2im(node: Node) -> Node | None:
    """Of patches side by side, perhaps with a padding; those that overlap would have to be summed up."""
    call, given = _Before(node), arguments(node)
    x, kernel, padding, out = (given[name] for name in ("self", "kernel_size", "padding", "output_size"))
    *batch, channels, _ = sizes_of(node, x)
    side_by_side = kernel == given["stride"] and all(step == 1 for step in given["dilation"])
    whole = [size + 2 * pad for size, pad in zip(out, padding, strict=True) if isinstance(size, int)]
    if not side_by_side or not isinstance(channels, int) or len(whole) != 2:
        return None
    rows, columns = (size // part for size, part in zip(whole, kernel, strict=True))
    if [rows * kernel[0], columns * kernel[1]] != whole:
        return None
    n, c = len(batch), channels // (kernel[0] * kernel[1])
    apart = call.reshaped(x, [*batch, c, *kernel, rows, columns])
    moved = call.permuted(apart, [*range(n + 1), n + 3, n + 1, n + 4, n + 2])
    image = call.reshaped(moved, [*batch, c, *whole])
    for dim, (pad, size) in enumerate(zip(padding, out, strict=True)):
        if pad:
            image = call(_A.slice.Tensor, image, n + 1 + dim, pad, pad + size)
    return image


def _rot90(node: Node) -> Node:
    call, given = _Before(node), arguments(node)
    x, turns = given["self"], given["k"] % 4
    rank = len(shape_of(x))
    first, second = (dim % rank for dim in given["dims"])
    flipped = {0: [], 1: [second], 2: [first, second], 3: [first]}[turns]
    x = call(_A.flip.default, x, flipped) if flipped else x
    order = list(range(rank))
    if turns % 2:
        order[first], order[second] = second, first
    return call.permuted(x, order)


def _roll(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    if given["dims"]:
        return None
    x = given["self"]
    rolled = call(_A.roll.default, call.reshaped(x, [-1]), given["shifts"], [0])
    return call.reshaped(rolled, sizes_of(node, x))


def _glu(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x, size = given["self"], shape_of(given["self"])[given["dim"]]
    if not isinstance(size, int):
        return None
    value, gate = (call(_A.slice.Tensor, x, given["dim"], start, start + size // 2) for start in (0, size // 2))
    return call(_A.mul.Tensor, value, call(_A.sigmoid.default, gate))


def _select_scatter(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    x, dim, index = given["self"], given["dim"] % len(shape_of(node)), given["index"]
    size = shape_of(x)[dim]
    if not isinstance(index, int) or not isinstance(size, int):
        return None
    index %= size
    source = call(_A.unsqueeze.default, given["src"], dim)
    return call(_A.slice_scatter.default, x, source, dim, index, index + 1)


def _copy(node: Node) -> Node | None:
    call, given = _Before(node), arguments(node)
    source = insert(node, _A._to_copy.default, (given["src"],), {"dtype": tensor_of(node).dtype}, like=node)
    return call(_A.expand.default, source, sizes_of(node, given["self"]))


def _expand(node: Node) -> Node:
    given = arguments(node)
    return _Before(node)(_A.expand.default, given["self"], given["size"])


def _diagonal(node: Node) -> Node:
    return _Before(node)(_A.diagonal.default, *arguments(node).values())


def _trace(node: Node) -> Node:
    call = _Before(node)
    return call(_A.sum.dim_IntList, call(_A.diagonal.default, arguments(node)["self"]), [0])


def _pad(node: Node) -> Node | None:
    given = arguments(node)
    if given["mode"] != "constant":
        return None
    return _Before(node)(_A.constant_pad_nd.default, given["self"], given["pad"], given["value"] or 0)


LAYOUTS: Mapping[Any, Callable[[Node], Node | None]] = {
    _A.repeat.default: _repeat,
    _A.pad.default: _pad,
    _A.pixel_shuffle.default: _pixel_shuffle,
    _A.pixel_unshuffle.default: _pixel_unshuffle,
    _A.channel_shuffle.default: _channel_shuffle,
    _A.native_channel_shuffle.default: _channel_shuffle,
    _A.im2col.default: _im2col,
    _A.col2im.default: _col2im,
    _A.rot90.default: _rot90,
    _A.roll.default: _roll,
    _A.glu.default: _glu,
    _A.select_scatter.default: _select_scatter,
    _A.copy.default: _copy,
    _A.expand_copy.default: _expand,
    _A.diagonal_copy.default: _diagonal,
    _A.trace.default: _trace,
}
"""How each is spelled, by a node before it; None where the arguments are not known."""
