"""Where every node's elements lie: its own buffer, a constant, or its source's through movement, copied if need be."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.fx import GraphModule, Node

from ..errors import GraphError
from ..graph.arguments import arguments, is_call
from ..graph.edit import constant_of
from ..graph.source import describe
from ..program.kernels import Pointwise
from ..program.sizes import Size
from .emission import Emission, Space, coalesced
from .plan import Plan
from .symbols import storage_of
from .views import PERMUTE, View, contiguous, moved, permuted


class Memory:
    """The views of a graph's nodes; makes copies, as steps of the plan, where strides cannot say it."""

    def __init__(self, plan: Plan, module: GraphModule) -> None:
        self.plan, self.module = plan, module
        self.views: dict[Node, View] = {}
        self.outputs: dict[Node, int] = {}
        """Nodes whose kernel writes straight into a value that the call returns."""

    def constant(self, node: Node) -> Tensor | None:
        """The tensor of a constant node, or None."""
        return constant_of(self.module, node)

    def view(self, node: Node) -> View:
        """Where the node's elements lie."""
        if node not in self.views:
            self.views[node] = self._constant_view(node) if node.op == "get_attr" else self._moved_view(node)
        return self.views[node]

    def _constant_view(self, node: Node) -> View:
        tensor = self.constant(node)
        storage = storage_of(tensor.dtype) if tensor is not None else None
        if tensor is None or storage is None:
            raise GraphError("a constant that programs do not hold", where=describe(node), fix="convert it to float32")
        shape = tuple(int(size) for size in tensor.shape)
        return contiguous(self.plan.constant(tensor), storage, shape)

    def _moved_view(self, node: Node) -> View:
        source = node.args[0]
        assert isinstance(source, Node), describe(node)
        before = self.view(source)
        after = moved(node, before) or moved(node, self.packed(before, f"copy for {node.name}"))
        if after is None:
            raise GraphError(f"{node.target} cannot be followed", where=describe(node), fix="report this model")
        self.plan.require_within(after)
        return after

    def packed(self, view: View, label: str) -> View:
        """A contiguous copy of a view."""
        place = contiguous(self.plan.value(view.dtype, view.shape), view.dtype, view.shape)
        self.copy(view, place, label)
        return place

    def copy(self, view: View, place: View, label: str) -> None:
        """A step that copies a view into another of the same shape."""

        def nothing_else(e: Emission, node: Node, space: Space) -> int:
            raise AssertionError

        e = Emission(self.plan, nothing_else, self.view)
        space = Space.of(view.shape)
        e.body.store(e.view_slot(place), e.strides(place, space), e.load(view, space))
        add_pointwise(e, view.shape, label)

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
        view = self.view(node)
        if len(view.shape) < 2 or view.strides[-2] in (0, 1) or view.shape[-2] == 1:
            return view
        # Only the dims that the mask really has are copied; what is broadcast stays so.
        real = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
        rank = len(real)
        order = [*range(rank - 2), rank - 1, rank - 2]
        return permuted(self.packed(permuted(replace(view, shape=real), order), "mask by query"), order)

    def store_of(self, node: Node, dtype: str, shape: tuple[Size, ...]) -> View:
        """A new buffer for the node, in the order in which its only reader wants it, where that is a permutation."""
        if node in self.outputs:
            view = contiguous(self.outputs[node], dtype, shape)
        else:
            order = list(range(len(shape)))
            (first, *others) = list(node.users) or [node]
            if is_call(first, PERMUTE) and not others:
                order = [d % len(shape) for d in arguments(first)["dims"]]
            physical = tuple(shape[d] for d in order)
            whole = contiguous(self.plan.value(dtype, physical), dtype, physical)
            view = permuted(whole, [order.index(d) for d in range(len(shape))])
        self.views[node] = view
        return view


def add_pointwise(e: Emission, shape: tuple[Size, ...], label: str) -> None:
    """The step that runs an emission at every point of `shape`."""
    body, sizes, _ = coalesced(e.body.build(), shape or (1,), [], [])
    inner = sizes[-1]
    chunk = min(4096, -(-inner // 16) * 16 or 16) if isinstance(inner, int) else 4096
    e.plan.step(Pointwise(sizes, body, max(1, 8192 // chunk), chunk), e.slots, e.params, label)
