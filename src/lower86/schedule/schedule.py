"""The INT8 graph as a Program: groups become steps in order, views say where every node's elements lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from ..errors import GraphError
from ..graph.arguments import is_call
from ..graph.edit import constant_of
from ..graph.source import describe
from ..program.body import Body, Store
from ..program.body import Node as BodyNode
from ..program.kernels import Pointwise, Rows
from ..program.program import Dim, Program
from ..program.sizes import Size, product
from .buffers import place_values
from .emission import Emission, Space, coalesced
from .foreign import ForeignCall, foreign_call
from .grouping import Group, Grouping
from .plan import Plan
from .pointwise import pointwise_of
from .rows import ROWS, RowBody, reduced_dims
from .symbols import DTYPE_NAMES, to_sizes
from .templates import emit_attention, emit_product
from .views import View, contiguous, moved, permuted

_A = torch.ops.aten


@dataclass(frozen=True)
class Scheduled:
    """A program, the calls its foreign steps make, and the kernel each INT8 node became part of."""

    program: Program
    foreign: tuple[ForeignCall, ...]
    kernel_of: dict[str, int]
    outputs: tuple[Any, ...]


def schedule(module: GraphModule) -> Scheduled:
    """The Program of a graph in INT8 form. Raises GraphError where the graph has no static meaning."""
    return _Scheduler(module).run()


class _Scheduler:
    def __init__(self, module: GraphModule) -> None:
        self.module, self.graph = module, module.graph
        self.plan = Plan()
        self.views: dict[Node, View] = {}
        self.foreign: list[ForeignCall] = []
        self.kernel_of: dict[str, int] = {}
        self.inputs: list[int] = []
        self.dims: list[Dim] = []
        (output,) = [n for n in self.graph.nodes if n.op == "output"]
        self.results = pytree.tree_leaves(output.args[0], is_leaf=lambda leaf: leaf is None)
        self.direct: dict[Node, int] = {}

    def run(self) -> Scheduled:
        grouping = Grouping(self.graph)
        self._place_inputs()
        outputs = self._choose_outputs(grouping)
        for group in grouping.in_order():
            self._emit(group)
        self._copy_outputs(outputs)
        arena = place_values(self.plan)
        plan = self.plan
        values = tuple(value for _, value in outputs)
        program = Program(
            tuple(self.dims), tuple(plan.values), tuple(self.inputs), values, tuple(plan.kernels), tuple(plan.steps),
            arena, tuple(plan.packings), tuple(plan.constants),
        )  # fmt: skip
        tensors = {node for node, _ in outputs}
        literals = tuple(r if not isinstance(r, Node) or r not in tensors else None for r in self.results)
        return Scheduled(program, tuple(self.foreign), self.kernel_of, literals)

    # Inputs and outputs

    def _place_inputs(self) -> None:
        ranges: dict[str, tuple[int, int | None]] = {}
        for number, node in enumerate(n for n in self.graph.nodes if n.op == "placeholder"):
            tensor = node.meta.get("val")
            if not isinstance(tensor, Tensor):
                # A Python number or None: export has fixed it in the graph; calls must pass the same.
                self.inputs.append(self.plan.value("bool", (0,), "input", number))
                continue
            if tensor.dtype not in DTYPE_NAMES:
                raise GraphError(
                    f"input {node.name} has dtype {tensor.dtype}, which programs do not hold",
                    where=describe(node),
                    fix=f"convert the input to one of {', '.join(str(d) for d in DTYPE_NAMES)}",
                )
            shape = to_sizes(tensor.shape)
            for axis, size in enumerate(tensor.shape):
                if not isinstance(size, int):
                    self._bind(size, number, axis, ranges)
            value = self.plan.value(DTYPE_NAMES[tensor.dtype], shape, "input", number)
            self.inputs.append(value)
            self.views[node] = contiguous(value, DTYPE_NAMES[tensor.dtype], shape)

    def _bind(self, size: Any, number: int, axis: int, ranges: dict[str, tuple[int, int | None]]) -> None:
        expression = size.node.expr
        if not expression.is_Symbol or str(expression) in {dim.name for dim in self.dims}:
            return
        bounds = size.node.shape_env.bound_sympy(expression)
        high = int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < 2**40 else None
        # Export infers 2 where it only means "not fixed at 0 or 1"; the program has no such special cases.
        low = 0 if int(bounds.lower) <= 2 else int(bounds.lower)
        self.dims.append(Dim(str(expression), low, high, number, axis))

    def _choose_outputs(self, grouping: Grouping) -> list[tuple[Node, int]]:
        """The tensors a call returns, in order, and a value for each; some kernels write theirs directly."""
        outputs: list[tuple[Node, int]] = []
        for result in self.results:
            if not isinstance(result, Node) or not isinstance(result.meta.get("val"), Tensor):
                continue
            tensor = result.meta["val"]
            dtype = DTYPE_NAMES.get(tensor.dtype)
            if dtype is None:
                raise GraphError(
                    f"output {result.name} has dtype {tensor.dtype}, which programs do not hold", where=describe(result)
                )
            value = self.plan.value(dtype, to_sizes(tensor.shape), "output", len(outputs))
            outputs.append((result, value))
            computed = result in grouping.of and grouping.groups[grouping.of[result]].kind != "foreign"
            if computed and result not in self.direct:
                self.direct[result] = value
        return outputs

    def _copy_outputs(self, outputs: list[tuple[Node, int]]) -> None:
        for node, value in outputs:
            if self.direct.get(node) == value:
                continue
            view = self.view(node)
            self._copy_into(view, value, view.shape, f"copy of {node.name}")

    # Views

    def view(self, node: Node) -> View:
        """Where the node's elements lie: its own buffer, a constant, or its source's through movement."""
        if node not in self.views:
            if node.op == "get_attr":
                tensor = constant_of(self.module, node)
                if tensor is None or tensor.dtype not in DTYPE_NAMES:
                    raise GraphError("a constant that programs do not hold", where=describe(node))
                shape = tuple(int(s) for s in tensor.shape)
                self.views[node] = contiguous(self.plan.constant(tensor), DTYPE_NAMES[tensor.dtype], shape)
            else:
                source = node.args[0]
                assert isinstance(source, Node), describe(node)
                before = self.view(source)
                after = moved(node, before)
                self.views[node] = moved(node, self._packed(before, node.name)) if after is None else after  # type: ignore[assignment]
        return self.views[node]

    def _packed(self, view: View, name: str) -> View:
        """A contiguous copy of a view."""
        value = self.plan.value(view.dtype, view.shape)
        self._copy_into(view, value, view.shape, f"copy for {name}")
        return contiguous(value, view.dtype, view.shape)

    def _copy_into(self, view: View, value: int, shape: tuple[Size, ...], label: str) -> None:
        def unreachable(e: Emission, node: Node, space: Space) -> int:
            raise AssertionError

        e = Emission(self.plan, unreachable, self.view)
        space = Space.of(shape)
        e.body.store(e.slot(value), contiguous(value, view.dtype, shape).strides, e.load(view, space))
        self._add_pointwise(e, shape, label)

    def _lay(self, what: Node | View, last_contiguous: bool) -> View:
        view = what if isinstance(what, View) else self.view(what)
        if last_contiguous and view.strides and view.strides[-1] != 1 and view.shape[-1] != 1:
            return self._packed(view, "contiguous rows")
        if last_contiguous and view.strides and view.strides[-1] != 1:
            return View(view.value, view.dtype, view.shape, (*view.strides[:-1], 1), view.offset)
        return view

    def _lay_mask(self, node: Node) -> View:
        """A mask whose queries lie next to each other, or do not matter: attention reads 16 queries at a time."""
        view = self.view(node)
        if len(view.shape) < 2 or view.strides[-2] in (0, 1) or view.shape[-2] == 1:
            return view
        # Only the dims that the mask really has are copied; what is broadcast stays so.
        real = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
        own = View(view.value, view.dtype, real, view.strides, view.offset)
        rank = len(real)
        order = [*range(rank - 2), rank - 1, rank - 2]
        return permuted(self._packed(permuted(own, order), "mask by query"), order)

    # Groups

    def _emit(self, group: Group) -> None:
        if group.kind == "foreign":
            self._emit_foreign(group)
        elif group.kind == "rows":
            self._emit_rows(group)
        elif group.kind == "anchor":
            self._emit_anchor(group)
        else:
            assert group.shape is not None
            e = self._emission(group, {})
            space = Space.of(group.shape)
            self._finish(e, group, group.nodes, space)
            self._add_pointwise(e, group.shape, self._label(group))
        if group.kind != "foreign":
            last = self.plan.steps[-1]
            for node in group.nodes:
                self.kernel_of[node.name] = getattr(last, "kernel", -1)

    def _emission(self, group: Group, known: dict[Node, int]) -> Emission:
        inside = set(group.nodes)

        def read(e: Emission, node: Node, space: Space) -> int:
            if node in known:
                return known[node]
            if node in inside:
                emit = pointwise_of(node)
                assert emit is not None, describe(node)
                return emit(e, node, space)
            return e.load(self.view(node), space)

        return Emission(self.plan, read, self.view)

    def _finish(self, e: Emission, group: Group, nodes: list[Node], space: Space) -> None:
        """Stores every node that somebody outside the group reads."""
        inside = set(group.nodes)
        for node in nodes:
            result = e.read(node, space)
            needed = [user for user in node.users if user not in inside]
            if not needed and node not in self.direct:
                continue
            dtype = e.dtype_of(node)
            shape = to_sizes(node.meta["val"].shape)
            view = self._storage(node, dtype, shape)
            self.views[node] = view
            e.body.store(e.view_slot(view), e.strides(view, space), e.cast(result, dtype))

    def _storage(self, node: Node, dtype: str, shape: tuple[Size, ...]) -> View:
        """A buffer for the node: in the order in which its only reader wants it, where that is a permutation."""
        if node in self.direct:
            return contiguous(self.direct[node], dtype, shape)
        users = list(node.users)
        if len(users) == 1 and is_call(users[0], _A.permute.default):
            rank = len(shape)
            order = [d % rank for d in users[0].args[1]]  # type: ignore[union-attr,operator]
            physical = tuple(shape[d] for d in order)
            value = self.plan.value(dtype, physical)
            return permuted(contiguous(value, dtype, physical), [order.index(d) for d in range(rank)])
        return contiguous(self.plan.value(dtype, shape), dtype, shape)

    def _add_pointwise(self, e: Emission, shape: tuple[Size, ...], label: str) -> None:
        body, sizes, _ = coalesced(e.body.build(), shape or (1,), [], [])
        inner = sizes[-1]
        chunk = min(4096, -(-inner // 16) * 16 or 16) if isinstance(inner, int) else 4096
        rows = max(1, 8192 // chunk)
        self.plan.step(Pointwise(sizes, body, rows, chunk), e.slots, e.params, label)

    def _emit_rows(self, group: Group) -> None:
        node = group.anchor
        assert node is not None
        source = node.args[0]
        assert isinstance(source, Node)
        x_shape = to_sizes(source.meta["val"].shape)
        reduced = list(reduced_dims(node))
        keeps = [d for d in range(len(x_shape)) if d not in reduced]
        if node.target is _A.cumsum.default:
            keeps = list(range(len(x_shape)))
        order = [*keeps, *reduced]
        rank = len(order)
        place = {d: i for i, d in enumerate(keeps)} | {d: len(keeps) + i for i, d in enumerate(reduced)}
        full = Space(x_shape, tuple(place[d] for d in range(len(x_shape))), rank)
        out_shape = to_sizes(node.meta["val"].shape)
        if ROWS[node.target].full:
            after = full
        elif len(out_shape) == len(keeps):
            after = Space(out_shape, tuple(range(len(keeps))), rank)
        else:
            after = Space(out_shape, tuple(place[d] if d in keeps else None for d in range(len(x_shape))), rank)
        known: dict[Node, int] = {}
        e = self._emission(group, known)
        extent = product(x_shape[d] for d in reduced)
        row = RowBody(e, node, full, after, extent, [])
        known[node] = ROWS[node.target].emit(row)
        position = group.nodes.index(node)
        self._finish(e, group, group.nodes[:position], full)
        self._finish_rows(e, group, group.nodes[position:], after, None if after is full else len(keeps))
        sizes = tuple(x_shape[d] for d in order) if rank else (1,)
        kept_sizes = sizes[: len(keeps)]
        if not keeps:
            sizes, body = (1, *sizes), _with_leading_dim(e.body.build())
            kept_sizes = (1,)
        else:
            body = e.body.build()
        kept_count = len(kept_sizes)
        body, sizes, marks = _coalesce_rows(body, sizes, kept_count)
        kept, inner = sizes[:marks], sizes[marks:]
        vertical = bool(keeps) and keeps[-1] == len(x_shape) - 1 and kept[-1] != 1
        length = product(inner)
        rows = max(1, 4096 // length) if isinstance(length, int) and length else 4
        if vertical:
            rows = 1
        kernel = Rows(kept, inner, vertical, tuple(row.reductions), body, rows)
        self.plan.step(kernel, e.slots, e.params, self._label(group))

    def _finish_rows(self, e: Emission, group: Group, nodes: list[Node], space: Space, kept: int | None) -> None:
        before = len(e.body.stores)
        self._finish(e, group, nodes, space)
        if kept is not None:
            for i in range(before, len(e.body.stores)):
                store = e.body.stores[i]
                e.body.stores[i] = type(store)(store.slot, store.strides[:kept], store.node)

    def _emit_anchor(self, group: Group) -> None:
        node = group.anchor
        assert node is not None
        known: dict[Node, int] = {}
        e = self._emission(group, known)

        def finish(result: int, space: Space) -> None:
            known[node] = result
            self._finish(e, group, group.nodes, space)

        if node.target is _A.scaled_dot_product_attention.default:
            kernel: Any = emit_attention(e, node, self._lay, self._lay_mask, finish)
        else:
            kernel, _ = emit_product(e, node, self._lay, lambda n: constant_of(self.module, n), finish)
        self.plan.step(kernel, e.slots, e.params, self._label(group))

    def _emit_foreign(self, group: Group) -> None:
        (node,) = group.nodes
        if not isinstance(node.meta.get("val"), (Tensor, tuple, list)):
            raise GraphError(
                f"{node.target} gives a {type(node.meta.get('val')).__name__}, which a program cannot hold",
                where=describe(node),
                fix="keep data-dependent numbers out of the model",
            )
        call, step = foreign_call(self, node, len(self.foreign))
        self.foreign.append(call)
        self.plan.steps.append(step)

    def _label(self, group: Group) -> str:
        return " + ".join(node.name for node in group.nodes)


def _with_leading_dim(body: Body) -> Body:
    """The body over one more dim in front, of size 1: rows need a kept dim even where all are reduced."""
    nodes = []
    for node in body.nodes:
        if node.op in ("load", "gather"):
            node = BodyNode(node.op, node.args, node.dtype, (node.attrs[0], (0, *node.attrs[1]), *node.attrs[2:]))
        elif node.op == "index":
            node = BodyNode(node.op, node.args, node.dtype, (node.attrs[0] + 1,))
        nodes.append(node)
    stores = tuple(Store(s.slot, (0, *s.strides), s.node) for s in body.stores)
    return Body(tuple(nodes), stores)


def _coalesce_rows(body: Body, sizes: tuple[Size, ...], kept: int) -> tuple[Body, tuple[Size, ...], int]:
    """`coalesced` within the kept and within the reduced dims; also says how many kept dims are left."""
    marker = tuple(range(kept))  # a fake access that shows how many kept dims remain
    body, new, (left,) = coalesced(body, sizes, [tuple(0 for _ in marker)], barriers=[kept])
    return body, new, len(left)
