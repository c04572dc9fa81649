"""The INT8 graph as a Program: inputs and outputs are placed, groups become steps in order, values get their memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from ..errors import GraphError
from ..graph.layout_guards import least
from ..graph.source import describe, line_of, module_of
from ..program.interface import Literal
from ..program.program import Dim, Loop, Program, State, Step
from ..program.renamed import renamed
from ..program.sizes import Size
from .buffers import place_values
from .checks import checks_of
from .dim_names import named_in_errors, names_of_dims
from .early import indices_read
from .foreign import ForeignCall, foreign_call
from .grouping import Group, Grouping
from .in_place import InPlace, place_states, write_back
from .joins import emit_join
from .kernels import emit_group
from .kinds import origin
from .layout import halo_of
from .memory import Memory
from .plan import Plan
from .recurrence import emit_recurrence
from .symbols import DTYPE_NAMES, storage_of, to_size, to_sizes
from .views import MOVEMENT, View, contiguous, moved


@dataclass(frozen=True)
class Scheduled:
    """A program, the calls its foreign steps make, and the kernel each INT8 node became part of.

    `outputs` has an entry for each flat result: None for the program's next output, or what else it is. `output_dtypes`
    are those of the program's outputs. `views` tells where the elements of the nodes lie that memory holds, inputs,
    constants and state left out; `step_of` is the last step of the group that computes a node.
    """

    program: Program
    foreign: tuple[ForeignCall, ...]
    kernel_of: dict[str, int]
    outputs: tuple[Literal | None, ...]
    output_dtypes: tuple[torch.dtype, ...]
    views: dict[str, View]
    step_of: dict[str, int]


def schedule(module: GraphModule) -> Scheduled:
    """The Program of a graph in INT8 form. Raises GraphError where a value cannot be part of one."""
    names = names_of_dims(module.graph)
    with named_in_errors(names):
        scheduled = _scheduled(module)
    named: Scheduled = renamed(scheduled, names) if names else scheduled
    return named


def _scheduled(module: GraphModule) -> Scheduled:
    plan = Plan()
    memory = Memory(plan, module)
    states = place_states(memory, module.graph)
    inputs, dims = _place_inputs(memory, module)
    _refuse_data_dependent_sizes(module, {dim.name for dim in dims})
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    results = pytree.tree_leaves(output.args[0], is_leaf=lambda leaf: leaf is None)
    grouping = Grouping(module.graph, memory.layouts)
    in_place = InPlace(grouping, module.graph)
    outputs = _place_outputs(memory, grouping, results)
    foreign: list[ForeignCall] = []
    kernel_of: dict[str, int] = {}
    step_of: dict[str, int] = {}
    done: set[int] = set()
    for group in grouping.in_order():
        done.add(group.number)
        plan.source = _source_of(group)
        if group.kind == "foreign":
            _emit_foreign(memory, group, foreign)
            step_of[group.nodes[0].name] = len(plan.steps) - 1
            continue
        if group.nodes[0] in in_place.state_of:
            in_place.emit(memory, group.nodes[0], done)
        elif group.kind == "join":
            emit_join(memory, group.nodes[0])
        elif group.kind == "recurrence":
            emit_recurrence(memory, group.nodes[0])
        else:
            emit_group(memory, group)
        last = plan.steps[-1]
        last = last.steps[0] if isinstance(last, Loop) else last
        assert isinstance(last, Step)
        kernel_of.update({node.name: last.kernel for node in group.nodes})
        step_of.update({node.name: len(plan.steps) - 1 for node in group.nodes})
    for node in module.graph.nodes:
        if node.name not in kernel_of and origin(node).name in kernel_of:
            kernel_of[node.name] = kernel_of[origin(node).name]
    plan.source = ""
    for node, value in outputs:
        if memory.outputs.get(node) != value:
            view = memory.view(node)
            memory.copy(view, contiguous(value, view.dtype, view.shape), f"copy of {node.name}")
    write_back(memory, module.graph)
    arena = place_values(plan)
    program = Program(
        tuple(dims), tuple(plan.values), tuple(inputs), tuple(value for _, value in outputs), tuple(plan.kernels),
        tuple(plan.steps), arena, tuple(plan.packings), tuple(plan.constants),
        tuple(dict.fromkeys([*checks_of(_input_sizes(module), {dim.name for dim in dims}), *plan.checks])),
        tuple(State(name, value) for name, value in states.items()),
    )  # fmt: skip
    literals = tuple(None if _is_tensor(result) else _literal(result) for result in results)
    dtypes = tuple(node.meta["val"].dtype for node, _ in outputs)
    views = _written_views(memory, module)
    return Scheduled(program, tuple(foreign), kernel_of, literals, dtypes, views, step_of)


def _written_views(memory: Memory, module: GraphModule) -> dict[str, View]:
    """Where the elements of the nodes lie that steps have written, and of those that are movement of such nodes."""
    found: dict[Node, View] = {}
    for node in module.graph.nodes:
        view = memory.views.get(node)
        if view is None and node.target in MOVEMENT and node.args[0] in found and halo_of(node) is None:
            view = moved(node, found[node.args[0]])
        if view is not None and memory.plan.values[view.value].place in ("arena", "output"):
            found[node] = view
    return {node.name: view for node, view in found.items()}


def _source_of(group: Group) -> str:
    """Where the group reads indices, if it does, and else where its first node comes from."""
    readers = [node for node in group.nodes if indices_read(node)] or [group.anchor or group.nodes[0]]
    places: dict[str, Node] = {}  # of what lowering has taken apart, the first
    for node in readers:
        places.setdefault(f"{module_of(node)} {line_of(node) or node.name}", node)
    return "; ".join(describe(node) for node in places.values())


def _is_tensor(result: object) -> bool:
    return isinstance(result, Node) and isinstance(result.meta.get("val"), Tensor)


def _literal(result: Any) -> Literal:
    value = result.meta.get("val") if isinstance(result, Node) else result
    if isinstance(value, torch.SymInt):
        return Literal(to_size(value))
    if isinstance(result, Node) and not isinstance(value, (int, float, bool, str, type(None))):
        raise GraphError(
            f"the model returns a {type(value).__name__} that depends on its input",
            where=describe(result),
            fix="return it as a tensor",
        )
    return Literal(value)


def _place_inputs(memory: Memory, module: GraphModule) -> tuple[list[int], list[Dim]]:
    values: list[int] = []
    dims: dict[str, Dim] = {}
    derived: dict[str, Dim] = {}  # for dims that no axis is by itself
    for number, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder"):
        tensor = node.meta.get("val")
        if not isinstance(tensor, Tensor):
            # A Python number or None: export has fixed it in the graph, and calls must pass the same.
            values.append(memory.plan.value("bool", (0,), "input", number))
            continue
        dtype = _known_dtype(tensor, node, "input")
        for axis, size in enumerate(tensor.shape):
            dim = None if isinstance(size, int) else _dim(size, number, axis)
            if dim is not None:
                (dims if (dim.factor, dim.offset) == (1, 0) else derived).setdefault(dim.name, dim)
        shape = to_sizes(tensor.shape)
        values.append(memory.plan.value(dtype, shape, "input", number))
        memory.views[node] = contiguous(values[-1], dtype, shape)
    return values, list({**derived, **dims}.values())


def _input_sizes(module: GraphModule) -> list[Any]:
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    return [size for value in values if isinstance(value, Tensor) for size in value.shape]


def _refuse_data_dependent_sizes(module: GraphModule, known: set[str]) -> None:
    for node in module.graph.nodes:
        values = pytree.tree_leaves(node.meta.get("val"))
        sizes = [size for value in values if isinstance(value, Tensor) for size in value.shape]
        numbers = [value for value in values if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool))]
        symbols = {
            str(s) for size in (*sizes, *numbers) if not isinstance(size, int) for s in size.node.expr.free_symbols
        }
        if symbols - known:
            raise GraphError(
                f"{node.target} gives a size or a number that depends on data, which a program cannot hold",
                where=describe(node),
                fix="keep it a tensor of fixed shape (torch.where instead of indexing by a mask, no .item())",
            )


def _dim(size: Any, number: int, axis: int) -> Dim | None:
    """The dim that a size `factor · dim + offset` tells; None for any other."""
    expression = size.node.expr
    if len(expression.free_symbols) != 1:
        return None
    (symbol,) = expression.free_symbols
    factor, offset = expression.diff(symbol), expression.subs(symbol, 0)
    if not (factor.is_Integer and offset.is_Integer and factor > 0):
        return None
    bounds = size.node.shape_env.bound_sympy(symbol)
    high = int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < 2**40 else None
    return Dim(str(symbol), least(size.node.shape_env, symbol), high, number, axis, int(factor), int(offset))


def _known_dtype(tensor: Tensor, node: Node, role: str) -> str:
    storage = storage_of(tensor.dtype)
    if storage is None:
        raise GraphError(
            f"{role} {node.name} has dtype {tensor.dtype}, which programs do not hold",
            where=describe(node),
            fix=f"convert it to one of {', '.join(str(dtype) for dtype in DTYPE_NAMES)}",
        )
    return storage


def _place_outputs(memory: Memory, grouping: Grouping, results: list[Any]) -> list[tuple[Node, int]]:
    """The tensors a call returns, in order, and a value for each; what a kernel computes is written there directly."""
    outputs: list[tuple[Node, int]] = []
    for result in results:
        if not _is_tensor(result):
            continue
        tensor = result.meta["val"]
        dtype = _known_dtype(tensor, result, "output")
        with memory.plan.adding_for(describe(result)):
            value = memory.plan.value(dtype, _sizes_of(result), "output", len(outputs))
        outputs.append((result, value))
        if result in grouping.of and grouping.groups[grouping.of[result]].kind != "foreign":
            memory.outputs.setdefault(result, value)
    return outputs


def _sizes_of(node: Node) -> tuple[Size, ...]:
    try:
        return to_sizes(node.meta["val"].shape)
    except GraphError as problem:
        raise GraphError(problem.what, where=describe(node), fix=problem.fix) from problem


def _emit_foreign(memory: Memory, group: Group, foreign: list[ForeignCall]) -> None:
    (node,) = group.nodes
    if not isinstance(node.meta.get("val"), (Tensor, tuple, list)):
        raise GraphError(
            f"{node.target} gives a {type(node.meta.get('val')).__name__}, which a program cannot hold",
            where=describe(node),
            fix="keep data-dependent numbers out of the model",
        )
    call, step = foreign_call(memory, node, len(foreign))
    foreign.append(call)
    memory.plan.steps.append(step)
