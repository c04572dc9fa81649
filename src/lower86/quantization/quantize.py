"""`quantize`: the whole story on one page."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from ..errors import Lower86Error, first_line
from ..frontend import torchao
from ..frontend.export import export_float
from ..frontend.torchao import Quantizer
from ..graph.pytrees import specs_copied_quietly
from .account import QuantizationReport, Step
from .bias_correction import correct_biases
from .calibration import Call, call_of, check_arguments, check_calls, gather
from .clip import settle_weights
from .computed_weights import hold_computed_weights
from .ignored import leave_out
from .judge import Judge
from .progress import Track, tracking
from .ranges import estimate
from .recipe import Recipe, recipe_of
from .slots import slots_of
from .smooth import smooth
from .watch import Watch, watch

_LOG = logging.getLogger("lower86")
_QUANTIZED = ("quantized_decomposed.", "lower86.", "torchao.dequantize", "torchao.quantize")
"""What the names of operators in a quantized graph begin with."""
_JUDGES = 64
"""At most so many inputs judge."""


def quantize(
    model: nn.Module | torch.export.ExportedProgram,
    calibration: Iterable[Any],
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    recipe: str | Recipe = "balanced",
    subset_size: int = 300,
    ignored: Iterable[Any] = (),
    quantizer: Any = None,
    transform: Callable[[Any], Any] | None = None,
    progress: bool = True,
    seed: int = 0,
) -> GraphModule:
    """Quantizes a float model for `lower_pt2e_quantized_to_x86`, with inputs to calibrate with.

    Args:
        model: a module, an ExportedProgram or its module. It is not changed.
        calibration: inputs of the model, each a tensor, a tuple or list of arguments, or a dict of arguments by name.
        example_inputs: one more such input, to export with; the first of `calibration` if left out.
        dynamic_shapes: as in `torch.export.export`.
        recipe: "fast", "balanced", "accurate", or a `Recipe`.
        subset_size: so many items of `calibration` are used.
        ignored: what stays float: names or globs of modules, types of modules, functions (`torch.matmul`).
        quantizer: any PT2E quantizer in place of the recipe's `X86Quantizer`.
        transform: makes an input of each item, such as a batch with labels.
        progress: shows how far it is and the time left.
        seed: of the samples that are taken; equal arguments give equal results.

    Returns:
        What `convert_pt2e` gives; `.meta["lower86"]` is a QuantizationReport, and its `str` says what was kept and why.

    Raises:
        InputError: the calibration set is empty, or one of its items does not fit the model.
        ExportError: the model cannot be traced.
        Lower86Error: a value in the model is NaN or infinite; `recipe` or `ignored` name what there is not.
    """
    chosen = recipe_of(recipe)
    check_settings(model, quantizer, dynamic_shapes, seed)
    given = accept(model, calibration, example_inputs, dynamic_shapes, subset_size, transform)
    prepared, report = settled(given, chosen, ignored, quantizer, progress, seed)
    quantized = torchao.convert(prepared)
    quantized.meta["lower86"] = report
    return quantized


@dataclass(frozen=True)
class Given:
    """A model as a graph of its own, the flat inputs to calibrate with, and one call to export with."""

    graph: GraphModule
    flat: Sequence[Sequence[Any]]
    example: Call


def accept(
    model: nn.Module | torch.export.ExportedProgram,
    calibration: Iterable[Any],
    example_inputs: Any,
    dynamic_shapes: Any,
    subset_size: int,
    transform: Callable[[Any], Any] | None,
) -> Given:
    """What `quantize` is given, checked. Raises as `quantize` does."""
    calls = gather(calibration, transform, subset_size)
    example = calls[0] if example_inputs is None else call_of(example_inputs, "example_inputs")
    if isinstance(model, nn.Module):
        check_arguments(model, example, "calibration, item 0" if example_inputs is None else "example_inputs")
    graph = _exported(model, example, dynamic_shapes)
    hold_computed_weights(graph)
    return Given(graph, check_calls(graph, calls), example)


def settled(
    given: Given, recipe: Recipe, ignored: Iterable[Any], quantizer: Any, progress: bool, seed: int
) -> tuple[GraphModule, QuantizationReport]:
    """The prepared graph, ready to be converted: all ranges settled, all steps that helped done. Uses `given` up."""
    wanted = leave_out(quantizer if quantizer is not None else recipe.quantizer(), ignored, given.graph)
    prepared = _prepared(given.graph, wanted)
    seen, held = _split(given.flat, recipe.held_out)
    with torch.no_grad(), tracking(progress) as track:
        statistics = _settled(prepared, seen, recipe, track, seed)
        judge = Judge(prepared, held)
        prepared, report = _improved(prepared, statistics, seen, judge, recipe, track)
    return prepared, QuantizationReport(len(seen), len(held), *report)


def check_settings(model: object, quantizer: object, dynamic_shapes: object, seed: object) -> None:
    """Raises Lower86Error for what cannot be a model, a quantizer and so on."""
    what, where, fix = "", "model", ""
    if not isinstance(model, (nn.Module, torch.export.ExportedProgram)):
        what = f"model is a {type(model).__name__}, not a torch.nn.Module"
        fix = "pass the float model, or its ExportedProgram"
    elif isinstance(model, nn.Module) and any(t.device.type != "cpu" for t in (*model.parameters(), *model.buffers())):
        found = next(t.device for t in (*model.parameters(), *model.buffers()) if t.device.type != "cpu")
        what = f"the model has tensors on the device {found}"
        fix = "move it to the CPU: model.cpu(); a model on meta has to be given its weights first"
    elif quantizer is not None and not isinstance(quantizer, Quantizer):
        what, where = f"{quantizer!r} is no quantizer", "quantizer"
        fix = "give an object with torchao's Quantizer as its class, such as lower86.X86Quantizer()"
    elif isinstance(dynamic_shapes, (int, float, str)):
        what, where = f"dynamic_shapes={dynamic_shapes!r}", "dynamic_shapes"
        fix = "give what torch.export.export takes: a tuple or a dict, by arguments"
    elif isinstance(seed, bool) or not isinstance(seed, int):
        what, where, fix = f"seed={seed!r}", "seed", "give a whole number"
    if what:
        raise Lower86Error(what, where=where, fix=fix)


def _exported(model: Any, example: Call, dynamic_shapes: Any) -> GraphModule:
    """A graph with tensors of its own, in eval mode."""
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module(check_guards=False)
    if isinstance(model, GraphModule) and any("val" in node.meta for node in model.graph.nodes):
        return _copied(model)
    if isinstance(model, nn.Module) and any(module.training for module in model.modules()):
        model = copy.deepcopy(model).eval()
    return _copied(export_float(model, example.args, dict(example.kwargs), dynamic_shapes))


def _copied(graph: GraphModule) -> GraphModule:
    with specs_copied_quietly():
        copied = copy.deepcopy(graph)
    return copied


def _prepared(graph: GraphModule, quantizer: Any) -> GraphModule:
    if any(str(node.target).startswith(_QUANTIZED) for node in graph.graph.nodes):
        raise Lower86Error("the model is quantized already", where="model", fix="pass the float model")
    prepared = torchao.prepare(graph, quantizer)
    if any(torchao.is_for_training(module) for module in prepared.modules()):
        raise Lower86Error(
            "the quantizer is one for quantization-aware training",
            where="quantizer",
            fix='use another mode than "qat" here, or train with prepare_qat_pt2e and convert_pt2e',
        )
    if not slots_of(prepared) and not any(torchao.is_observer(module) for module in prepared.modules()):
        _LOG.warning("quantize: nothing in the model is to be quantized")
    return prepared


def _split(flat: Sequence[Any], share: float) -> tuple[list[Any], list[Any]]:
    """Inputs that calibrate and inputs that judge, the latter spread evenly; a single one does both."""
    every = max(2, round(1 / share))
    held = [leaves for i, leaves in enumerate(flat) if i % every == every - 1]
    seen = [leaves for i, leaves in enumerate(flat) if i % every != every - 1]
    return seen, (held or list(flat[:1]))[:_JUDGES]


def _settled(
    prepared: GraphModule, calls: Sequence[Any], recipe: Recipe, track: Track, seed: int
) -> Mapping[str, Watch]:
    """Runs the calibration inputs, and settles all ranges as the recipe says."""
    slots = slots_of(prepared)
    settle_weights(prepared, clipped=False)  # first: what is wrong with a weight is said before anything runs
    try:
        statistics = watch(prepared, slots, calls, track, seed)
    except Lower86Error:
        raise
    except Exception as problem:  # an operator of the model
        raise Lower86Error(
            f"the model failed on a calibration input: {first_line(problem)}",
            where="quantize",
            fix="run the model itself on all calibration inputs",
        ) from problem
    for slot in slots:
        seen = statistics.get(slot.name)
        if seen is None or not seen.was_seen:
            continue
        kinds = {"linear": recipe.linears, "convolution": recipe.convolutions}
        observer = slot.observer
        low, high = estimate(
            seen,
            kinds.get(slot.kind, recipe.others),
            recipe.percentile,
            int(observer.quant_max) - int(observer.quant_min),
            observer.qscheme == torch.per_tensor_symmetric,
        )
        torchao.settle(observer, torch.tensor(low), torch.tensor(high))
    return statistics


def _improved(
    prepared: GraphModule,
    statistics: Mapping[str, Watch],
    calls: Sequence[Any],
    judge: Judge,
    recipe: Recipe,
    track: Track,
) -> tuple[GraphModule, tuple[float, float, tuple[Step, ...]]]:
    """The graph after all steps of the recipe that helped; SQNR before and after them, and the steps."""
    wanted: list[tuple[str, Callable[[GraphModule], str]]] = []
    if recipe.smooth:
        wanted.append(("smoothing", lambda graph: smooth(graph, slots_of(graph), statistics, recipe)))
    if recipe.weight_clipping:
        wanted.append(("weight clipping", partial(settle_weights, clipped=True)))
    if recipe.bias_correction:
        wanted.append(("bias correction", partial(correct_biases, calls=calls, track=track)))
    plain = reached = judge.sqnr(prepared)
    steps: list[Step] = []
    for name, step in track(wanted, "Improve"):
        prepared, done = judge.attempt(prepared, name, reached, step)
        reached = done.after if done.kept else reached
        steps.append(done)
    return prepared, (plain, reached, tuple(steps))
