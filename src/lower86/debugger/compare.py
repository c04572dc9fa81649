"""`lower86.compare`: where a model loses accuracy, node by node: to quantization, or to what the machine code does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from ..errors import InputError, Lower86Error, first_line
from ..frontend.export import plain_graph
from ..graph.scaled import factors_of
from ..graph.source import line_of, module_of
from ..lowered import LoweredModule
from ..report.comparison import Comparison, Distance, Row
from .compiled_values import CompiledValues
from .join import FloatNodes
from .measures import distance, saturation
from .observed import Observed, observe
from .places import Place, bounds_of, name_of, places_of, reshapes_of

_WHERE = "compare(model_fp32, quantized, lowered, inputs)"


def compare(
    model_fp32: torch.nn.Module,
    quantized: GraphModule,
    lowered: LoweredModule,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compares, on one call, the float model with the quantized one, and that with the compiled program.

    Args:
        model_fp32: the model before quantization, in eval mode, or its exported graph module.
        quantized: what `convert_pt2e` returned.
        lowered: what `lower_pt2e_quantized_to_x86(quantized, …)` returned. Its machine code runs step by step, and what
            it has written is read from its memory.
        inputs: the positional arguments of one call, a tuple.
        kwargs: its keyword arguments.

    Returns:
        A row for each value, worst first. None of the models changes; the state of all three begins as the lowered
        module's is.

    Raises:
        Lower86Error: `lowered` is no lowered module, or was not made from `quantized`.
        InputError: the inputs do not fit one of the models, or hold NaN.
        ExportError: the float model cannot be traced.
    """
    _check(model_fp32, quantized, lowered, inputs)
    args, named = tuple(inputs), dict(kwargs or {})
    for leaf in pytree.tree_leaves((args, named)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and bool(leaf.isnan().any()):
            raise InputError("the inputs hold NaN", where=_WHERE, fix="look at what makes them, or take other ones")
    state = {name: tensor.detach().clone() for name, tensor in lowered.named_state()}
    compiled = CompiledValues(quantized, lowered, args, named, state)  # first: it says best what does not fit
    places = places_of(quantized)
    nodes = {node for place in places for node in (place.source, *reshapes_of(place.source))}
    moves = {node for place in places for node in place.moves}
    nodes |= {node for move in moves for node in move.all_input_nodes}
    wanted = {node.name for node in nodes} | {place.name for place in places}
    functions = {node.name for place in places for node in (*place.dequantizes, *place.moves)}

    def run(instead: Mapping[str, Tensor]) -> Observed:
        return observe(quantized, args, named, wanted=wanted, functions=functions, instead=instead, state=state)

    whole = run({})
    floats = _floats(model_fp32, quantized, places, args, named, state)
    on_floats = run({name: floats[p.name] for p in places if p.name in floats for name in _given_to(p)})
    for place in places:
        if place.moves and place.name not in floats and _origin(place).name in floats:
            floats[place.name] = on_floats.values[place.source.name]  # the float model's, moved as the model moves it
    given = compiled.of(places, whole)
    on_given = run(given)
    rows: list[Row] = []
    for place in places:
        real, exact = _real(place, whole), floats.get(place.name)
        if real is None or not real.is_floating_point():
            continue
        dtype = str(whole.values[place.name].dtype).removeprefix("torch.")
        node = place.source
        rows.append(
            Row(
                len(rows), place.name, name_of(node), module_of(node), line_of(node), dtype,
                _apart(exact, real), _apart(exact, _real(place, on_floats)), _saturation(place, whole, real),
                _from_compiled(place, whole, given, on_given), _from_compiled(place, on_given, given, on_given),
                "" if place.name in given else compiled.kernel_of(place, places),
            )
        )  # fmt: skip
    return Comparison(tuple(sorted(rows, key=lambda row: row.worst)))


def _check(model_fp32: object, quantized: object, lowered: object, inputs: object) -> None:
    what, fix = "", ""
    if not isinstance(model_fp32, torch.nn.Module):
        what = f"model_fp32 is a {type(model_fp32).__name__}, not a torch.nn.Module"
        fix = "pass the model before quantization; for an ExportedProgram, pass its .module()"
    elif not isinstance(quantized, GraphModule) or isinstance(quantized, LoweredModule):
        what = f"quantized is a {type(quantized).__name__}, not the graph module of a quantized model"
        fix = "pass what convert_pt2e returned"
    elif not isinstance(lowered, LoweredModule):
        what = f"lowered is a {type(lowered).__name__}, which has no graph whose nodes could be compared"
        fix = "pass what lower_pt2e_quantized_to_x86 returned; a loaded program has only the machine code's part of it"
    elif not isinstance(inputs, (tuple, list)):
        what = f"inputs is a {type(inputs).__name__}, not a tuple"
        fix = "wrap a single tensor in a tuple: (x,)"
    if what:
        raise Lower86Error(what, where=_WHERE, fix=fix)


def _floats(
    model: torch.nn.Module,
    quantized: GraphModule,
    places: Sequence[Place],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    state: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """By place, what the float model has there."""
    graph = plain_graph(model, args, kwargs)
    nodes = FloatNodes(graph, quantized)
    found = {place.name: node.name for place in places if (node := nodes.of(place.source)) is not None}
    try:
        values = observe(graph, args, kwargs, wanted=set(found.values()), state=state).values
    except Lower86Error:
        raise
    except Exception as problem:  # whatever an operator raises on inputs that do not suit it
        raise InputError(
            f"the float model cannot run on these inputs: {first_line(problem)}",
            where=_WHERE,
            fix="pass the model that was quantized, and inputs that it takes",
        ) from problem
    real = {place: values[node] for place, node in found.items() if node in values}
    factors = {place.name: factors_of(place.source) for place in places}
    return {place: value if (by := factors[place]) is None else value * by for place, value in real.items()}


def _origin(place: Place) -> Node:
    """The node whose result is moved to the place."""
    return place.moves[0].all_input_nodes[0]


def _given_to(place: Place) -> list[str]:
    """The nodes that hand the place's value on, as floats."""
    return [node.name for node in place.dequantizes] or [place.name]


def _real(place: Place, seen: Observed) -> Tensor | None:
    """The place's value as a real number: what its readers make of the integers."""
    value = seen.values.get(place.name)
    return value if value is None or place.quantize is None else _dequantized(place, seen, value)


def _dequantized(place: Place, seen: Observed, integers: Tensor) -> Tensor:
    real: Tensor = seen.functions[place.dequantizes[0].name](integers)
    return real


def _apart(exact: Tensor | None, value: Tensor | None) -> Distance | None:
    if exact is None or value is None or exact.shape != value.shape:
        return None
    return distance(exact, value)


def _saturation(place: Place, seen: Observed, real: Tensor) -> float | None:
    if place.quantize is None:
        return None
    integers = seen.values[place.name]
    low, high = bounds_of(place.quantize, integers.dtype)
    return saturation(seen.values[place.source.name], integers, real, low, high)


def _from_compiled(place: Place, expected: Observed, given: Mapping[str, Tensor], program: Observed) -> Distance | None:
    """How far the compiled value is from what the quantized graph gave in `expected`.

    Integers of the program stand for reals by the parameters in `program`, which ran on the program's values.
    """
    value, real = given.get(place.name), _real(place, expected)
    if value is None or real is None or value.shape != real.shape:
        return None
    if place.quantize is None:
        return distance(real, value)
    return distance(real, _dequantized(place, program, value), (expected.values[place.name], value))
