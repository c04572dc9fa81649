"""Where every node's elements lie: its own buffer, a constant, or its source's through movement, copied if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..codegen.row_passes import COSTLY
from ..errors import GraphError
from ..graph.arguments import arguments, is_call
from ..graph.edit import constant_of
from ..graph.source import describe
from ..ops.matmul import int8_matmul
from ..program.body import Body
from ..program.dtypes import computed
from ..program.kernels import Band, Fill, Interleave, Pointwise
from ..program.sizes import Size, contiguous_strides, evaluate, names, product
from .emission import Emission, Space, coalesced
from .layout import Halo, Layouts, channels_last, halo_of, have_same_shape
from .plan import Plan
from .pointwise import pointwise_of
from .scalars import constant
from .symbols import storage_of, to_sizes
from .views import PERMUTE, View, contiguous, inverse, moved, permuted, room_of, sliced, transposed

_A = torch.ops.aten


class Memory:
    """The views of a graph's nodes; makes copies, as steps of the plan, where strides cannot say it."""

    def __init__(self, plan: Plan, module: GraphModule) -> None:
        self.plan, self.module = plan, module
        self.layouts = Layouts(module.graph)
        self.views: dict[Node, View] = {}
        self._halos: dict[int, tuple[Halo, View]] = {}
        self._turned: dict[Node, View] = {}
        self._copies: dict[tuple[View, Halo, bool], View] = {}
        self._checked: dict[tuple[Node, Size, bool], View] = {}
        self.states: dict[Node, View] = {}
        """Where each node of state lies."""
        self.outputs: dict[Node, int] = {}
        """Nodes whose kernel writes straight into a value that the call returns."""

    def constant(self, node: Node) -> Tensor | None:
        """The tensor of a constant node, or None."""
        return constant_of(self.module, node)

    def view(self, node: Node) -> View:
        """Where the node's elements lie."""
        if node not in self.views:
            known = self.states.get(node)
            self.views[node] = known or (self._constant_view(node) if node.op == "get_attr" else self._moved_view(node))
        return self.views[node]

    def _constant_view(self, node: Node) -> View:
        tensor = self.constant(node)
        if tensor is None or storage_of(tensor.dtype) is None:
            raise GraphError("a constant that programs do not hold", where=describe(node), fix="convert it to float32")
        return self._constant_of(tensor)

    def _constant_of(self, tensor: Tensor) -> View:
        storage = storage_of(tensor.dtype)
        assert storage is not None
        return contiguous(self.plan.constant(tensor), storage, tuple(int(size) for size in tensor.shape))

    def _moved_view(self, node: Node) -> View:
        source = node.args[0]
        assert isinstance(source, Node), describe(node)
        around = halo_of(node)
        before = self.view(source) if around is None else self.with_halo(source, around[1])
        after = moved(node, before) or moved(node, self.packed(before, f"copy for {node.name}"))
        if after is None:
            raise GraphError(f"{node.target} cannot be followed", where=describe(node), fix="report this model")
        with self.plan.adding_for(describe(node)):
            self.plan.require_within(after)
            if product(before.shape) != product(self.plan.values[before.value].shape):
                for size in room_of(node, before, after):  # within its value, it could reach what lies beside the part
                    self.plan.require(size)
        return after

    def packed(self, view: View, label: str) -> View:
        """A contiguous copy of a view."""
        place = contiguous(self.plan.value(view.dtype, view.shape), view.dtype, view.shape)
        self.copy(view, place, label)
        return place

    def copy(self, view: View, place: View, label: str) -> None:
        """A step that copies a view into another of the same shape."""
        self.fill(view, place, label, _walk_order(place.shape, place.strides, view))

    def fill(self, what: View | float, place: View, label: str, order: Sequence[int] | None = None) -> None:
        """A step that writes a view's elements, or a number, to a place; other dtypes are converted."""
        order = order or range(len(place.shape))
        e = Emission(self.plan, computes_nothing, self.view)
        space = Space.of(place.shape, order)
        element = e.load(what, space) if isinstance(what, View) else constant(e, computed(place.dtype), what).node
        e.store(place, space, element)
        add_pointwise(e, tuple(place.shape[d] for d in order), label)

    def checked(self, node: Node, bound: Size, wraps: bool, reader: Node) -> View:
        """The node's integers as `reader`'s indices below `bound`, all checked before anything reads the first one."""
        if (node, bound, wraps) not in self._checked:
            view = self.view(node)
            place = contiguous(self.plan.value("i64", view.shape), "i64", view.shape)
            e = Emission(self.plan, computes_nothing, self.view)
            space = Space.of(view.shape)
            index = e.cast(e.load(view, space), "i64")
            e.store(place, space, e.body.add("checked", (index,), "i64", (bound, wraps)))
            with self.plan.adding_for(describe(reader)):
                add_pointwise(e, view.shape, f"{reader.name}, its indices")
            self._checked[node, bound, wraps] = place
        return self._checked[node, bound, wraps]

    def apart(self, view: View, place: View, label: str) -> View:
        """The view, copied if a kernel that writes to `place` would write to it too."""
        return self.packed(view, label) if view.value == place.value else view

    def overwrite(self, node: Node, state: View) -> None:
        """Says that the node's elements are about to be written over those of `state`."""
        self._copies = {key: copy for key, copy in self._copies.items() if key[0].value != state.value}
        self.views[node] = state
        self.outputs.pop(node, None)

    def rows_of(self, what: Node | View) -> View:
        """The node's view, copied if its last dim is not contiguous."""
        view = what if isinstance(what, View) else self.view(what)
        if not view.strides or view.strides[-1] == 1:
            return view
        if view.shape[-1] == 1:
            return replace(view, strides=(*view.strides[:-1], 1))
        return self.packed(view, "copy into contiguous rows")

    def mask_of(self, node: Node) -> View:
        """A mask whose queries lie next to each other, or do not matter: attention reads 16 queries at a time."""
        known = self.constant(node)
        if known is not None and known.dim() >= 2 and known.shape[-2] != 1 and storage_of(known.dtype) is not None:
            if node not in self._turned:  # now, not in every call
                self._turned[node] = transposed(self._constant_of(known.mT.contiguous()))
            return self._turned[node]
        view = self.view(node)
        if len(view.shape) < 2 or view.strides[-2] in (0, 1) or view.shape[-2] == 1:
            return view
        if node not in self._turned:  # once for all that read it
            # Only the dims that the mask really has are copied; what is broadcast stays so.
            real = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
            self._turned[node] = transposed(self.packed(transposed(replace(view, shape=real)), "mask by query"))
        return self._turned[node]

    def store_of(self, node: Node, dtype: str, shape: tuple[Size, ...]) -> View:
        """The node's buffer: a new one the first time it is asked for.

        It has the order and the halo that the layout says, or else the order in which its only reader wants it, where
        that is a permutation.
        """
        if node in self.views:
            return self.views[node]
        joined = self._place_in_join(node)
        if node in self.outputs:
            view = contiguous(self.outputs[node], dtype, shape)
        elif joined is not None:
            view = joined
        else:
            order = self.layouts.order(node) or self._wanted_order(node, len(shape))
            view = self._new_buffer(dtype, shape, order, self.layouts.halos.get(node))
        self.views[node] = view
        return view

    def _place_in_join(self, node: Node) -> View | None:
        """The node's part of what a concatenation puts together, if it can be computed there at once."""
        halo = self.layouts.halos.get(node)
        if node in self.outputs or (halo is not None and not halo.is_empty):
            return None
        for reader in node.users:
            parts = arguments(reader)["tensors"] if is_call(reader, _A.cat.default) else []
            if parts.count(node) != 1 or reader.meta["val"].dtype != node.meta["val"].dtype:
                continue
            if any(part.meta["val"].dim() != node.meta["val"].dim() for part in parts):
                continue
            dim = arguments(reader)["dim"] % node.meta["val"].dim()
            sizes = [to_sizes(part.meta["val"].shape)[dim] for part in parts]
            place = parts.index(node)
            whole = self.store_of(reader, self.dtype_of(reader), to_sizes(reader.meta["val"].shape))
            return sliced(whole, dim, sum(sizes[:place], start=0), 1, sizes[place])
        return None

    def dtype_of(self, node: Node) -> str:
        """The program's name of a tensor's dtype."""
        storage = storage_of(node.meta["val"].dtype)
        assert storage is not None
        return storage

    def _wanted_order(self, node: Node, rank: int) -> tuple[int, ...]:
        (first, *others) = list(node.users) or [node]
        if not is_call(first, PERMUTE) or others:
            return tuple(range(rank))
        order = tuple(d % rank for d in arguments(first)["dims"])
        last = rank - 1
        if last in order[-2:] and all(is_call(user, int8_matmul) and user.args[1] is first for user in first.users):
            # It packs columns as well as rows: these bytes need not change places one by one.
            return (*(d for d in order if d != last), last)
        return order

    def _new_buffer(self, dtype: str, shape: tuple[Size, ...], order: Sequence[int], halo: Halo | None) -> View:
        """A new value in this order of dims, its halo filled by steps of the plan."""
        before, after = [0] * len(shape), [0] * len(shape)
        if halo is not None:
            before[2:], after[2:] = halo.low, halo.high
        padded = tuple(size + a + b for size, a, b in zip(shape, before, after, strict=True))
        physical = tuple(padded[d] for d in order)
        whole = permuted(contiguous(self.plan.value(dtype, physical), dtype, physical), inverse(order))
        if halo is None or halo.is_empty:
            return whole
        view = whole
        for dim, (low, size) in enumerate(zip(before, shape, strict=True)):
            view = sliced(view, dim, low, 1, size)
        bands = borders(physical, [before[d] for d in order], [after[d] for d in order])
        param = (computed(dtype), halo.fill)
        self.plan.step(Fill(0, dtype, product(physical), bands), [(whole.value, 0)], [param], "halo")
        self._halos[view.value] = (halo, view)
        return view

    def with_halo(self, node: Node, halo: Halo, slack: bool = False) -> View:
        """The node's view, channels last, with at least this halo; with `slack`, readable beyond its end."""
        view = self.view(node)
        known = self._copies.get((view, halo, slack))
        if known is not None:
            return known
        own, whole = self._halos.get(view.value, (None, view))
        # A view of part of the value has other elements around it.
        around = own is not None and (view.shape[2:], view.strides[2:]) == (whole.shape[2:], whole.strides[2:])
        serves = halo.is_empty or (own is not None and around and own.covers(halo))
        in_arena = self.plan.values[view.value].place == "arena"
        has_channels_last = view.strides[1] == 1 or view.shape[1] == 1
        if not serves or not has_channels_last or (slack and not in_arena):
            given = view
            place = self._new_buffer(view.dtype, view.shape, channels_last(len(view.shape)), halo)
            self.copy(view, place, f"{node.name}, channels last")
            view = self._copies[given, halo, slack] = place
        if slack:
            self.plan.slack.add(view.value)
        return view

    def order_of(self, node: Node) -> tuple[int, ...]:
        """The order of the node's dims in memory, outermost first, as far as that is known."""
        rank = node.meta["val"].dim()
        order = self.layouts.order(node)
        if order is not None:
            return order
        if node not in self.views and pointwise_of(node) is not None:
            alike = (n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor))
            source = next((n for n in alike if have_same_shape(n, node)), None)
            return tuple(range(rank)) if source is None else self.order_of(source)
        view = self.view(node)
        return _walk_order(view.shape, view.strides)

    def walk_order(self, nodes: Sequence[Node]) -> tuple[int, ...]:
        """The order in which a pointwise kernel of these nodes walks their dims."""
        for node in nodes:
            order = self.layouts.order(node)
            if order is None:
                continue
            channels = node.meta["val"].shape[1]
            few = isinstance(channels, int) and channels < _FEW and not _is_interleaved(channels)
            return tuple(range(len(order))) if few else order
        return tuple(range(nodes[0].meta["val"].dim()))


def computes_nothing(e: Emission, node: Node, space: Space) -> int:
    """Computes no node: what a step reads are views."""
    raise AssertionError


_FEW = 16
"""Channels that do not fill a vector: lanes along the last spatial dim then."""


def _is_interleaved(channels: Size) -> bool:
    """Whether so many channels, computed one after another, are written side by side."""
    return isinstance(channels, int) and 2 <= channels <= 4


def _walk_order(shape: Sequence[Size], strides: Sequence[Size], source: View | None = None) -> tuple[int, ...]:
    """The dims, those with the largest strides first, so that neighbours in memory are walked one after another.

    A dim of size 1 goes first, whatever its stride.
    """
    far = {name: 1009 for size in (*shape, *strides) for name in names(size)}
    order = sorted(range(len(shape)), key=lambda d: (shape[d] != 1, -evaluate(strides[d], far), d))
    innermost = shape[order[-1]] if order else None
    few = isinstance(innermost, int) and innermost < _FEW and not _is_interleaved(innermost)
    if source is not None and few:
        return _walk_order(source.shape, source.strides)
    return tuple(order)


def borders(shape: Sequence[Size], before: Sequence[int], after: Sequence[int]) -> tuple[Band, ...]:
    """What of a buffer of this shape lies around its inside, in as few bands as can be.

    Along the last padded dim, the end of one row and the beginning of the next lie side by side.
    """
    strides = contiguous_strides(shape)
    *outer, last = [d for d in range(len(shape)) if before[d] or after[d]]
    bands = []
    for dim in outer:
        size, low, high, stride = shape[dim], before[dim], after[dim], strides[dim]
        leading, steps = tuple(shape[:dim]), strides[:dim]
        if low == high:
            bands.append(Band(0, (*leading, 2, low * stride), (*steps, stride * (size - low))))
            continue
        bands += [Band(0, (*leading, low * stride), steps)] if low else []
        bands += [Band(stride * (size - high), (*leading, high * stride), steps)] if high else []
    rows, size, stride = product(shape[:last]), shape[last], strides[last]
    low, high = before[last], after[last]
    bands.append(Band((size - high) * stride, (rows - 1, (low + high) * stride), (size * stride,)))
    bands += [Band(0, (low * stride,), ())] if low else []
    bands += [Band((rows * size - high) * stride, (high * stride,), ())] if high else []
    return tuple(bands)


def add_pointwise(e: Emission, shape: tuple[Size, ...], label: str) -> None:
    """The step that runs an emission at every point of `shape`."""
    body, sizes, _ = coalesced(e.body.build(), shape or (1,), [], [])
    inner = sizes[-1]
    if len(sizes) > 1 and _is_interleaved(inner) and _writes_side_by_side(body, inner):
        width = sizes[-2] if isinstance(sizes[-2], int) else 64
        kernel = Interleave(sizes, body, max(1, 2048 // max(1, width)))
        e.plan.step(kernel, e.slots, e.params, label)
        return
    # Each takes as long as a dozen other operations: a microsecond is 500 elements of a recurrent layer's five.
    most = 512 if sum(node.op in COSTLY for node in body.nodes) >= 4 else 8192
    widest = min(most, 4096)
    chunk = min(widest, -(-inner // 16) * 16 or 16) if isinstance(inner, int) else widest
    e.plan.step(Pointwise(sizes, body, max(1, most // chunk), chunk), e.slots, e.params, label)


def _writes_side_by_side(body: Body, channels: Size) -> bool:
    """Whether every store goes through the last two dims without a gap, and some load does not."""
    across = any(node.op == "load" and node.strides[-2:] != (channels, 1) for node in body.nodes)
    return across and all(store.strides[-2:] == (channels, 1) and not store.places for store in body.stores)
