"""Export and decomposition of the quantized module: strict first, as PyTorch's own lowering does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule

from ..errors import ExportError, first_line
from ..graph.pytrees import specs_copied_quietly
from .decompositions import table
from .dim_names import name_dims
from .dynamic import kept_dims, larger_examples

_LOG = logging.getLogger("lower86")
_LINES = 3
"""As many of torch's own lines are part of an error."""
_ADVICE = re.compile(
    r" For more information, run with TORCH_LOGS=\S*| If you're using mark_dynamic.*"
    r"| ?The error above occurred when calling torch\.export.*"
)
"""Torch's, of its own settings and of functions that nobody has called."""


def export_module(
    model: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    example_kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    strict: bool = True,
) -> GraphModule:
    """A functional graph of `model` over composite operators, its weights as attributes, its pytrees kept.

    The graph shares the model's tensors; those that it writes to, `normalize` replaces by copies. Dims that are
    symbolic in the model stay so. Without `strict`, that way is not tried: it makes torch.compile forget what it has
    compiled. Raises ExportError if the model cannot be traced.
    """
    _check(model, example_inputs, example_kwargs)
    args, kwargs = tuple(example_inputs), dict(example_kwargs or {})
    collection: Any = dynamic_shapes
    if isinstance(collection, torch.export.ShapesCollection):
        shapes_of: Callable[..., Any] = collection.dynamic_shapes
        dynamic_shapes = shapes_of(model, args, kwargs)
    with torch.no_grad(), specs_copied_quietly():
        if dynamic_shapes is None:
            dynamic_shapes = kept_dims(model, args, kwargs)
        if dynamic_shapes is not None:
            args, kwargs = larger_examples(model, args, kwargs, dynamic_shapes)
        program = _export(model, args, kwargs, dynamic_shapes, (True, False) if strict else (False,))
        module = program.module(check_guards=False)
    assert isinstance(module, GraphModule)
    name_dims(module, model, args, kwargs)
    return module


def export_float(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any = None
) -> GraphModule:
    """A graph of a float model for a quantizer: as export writes it, nothing decomposed. Shares the model's tensors.

    Raises ExportError if the model cannot be traced.
    """
    _check(model, args, kwargs)
    with torch.no_grad(), specs_copied_quietly():
        if dynamic_shapes is not None:
            args, kwargs = larger_examples(model, args, kwargs, dynamic_shapes)
        module = _export(model, args, kwargs, dynamic_shapes, decomposed=False).module(check_guards=False)
    assert isinstance(module, GraphModule)
    return module


def capture(
    model: torch.nn.Module, example_inputs: tuple[Any, ...], *, dynamic_shapes: Any = None
) -> torch.export.ExportedProgram:
    """The program of `model` as it is, in the mode that it is in, to be prepared for training.

    Raises ExportError if the model cannot be traced.
    """
    _check(model, example_inputs, None)
    with specs_copied_quietly():
        return _export(model, tuple(example_inputs), {}, dynamic_shapes, decomposed=False)


def _check(model: object, example_inputs: object, example_kwargs: object) -> None:
    if not isinstance(model, torch.nn.Module):
        raise ExportError(
            f"expected a torch.nn.Module, got {type(model).__name__}",
            where="model",
            fix="pass what convert_pt2e returned; for an ExportedProgram, pass its .module()",
        )
    if not isinstance(example_inputs, (tuple, list)):
        raise ExportError(
            f"example_inputs is a {type(example_inputs).__name__}, not a tuple",
            where="example_inputs",
            fix="wrap a single tensor in a tuple: (x,)",
        )
    if example_kwargs is not None and not isinstance(example_kwargs, Mapping):
        raise ExportError(
            f"example_kwargs is a {type(example_kwargs).__name__}, not a dict",
            where="example_kwargs",
            fix='pass the keyword arguments of one call: {"mask": mask}',
        )


def _export(
    model: torch.nn.Module,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any,
    ways: tuple[bool, ...] = (True, False),
    *,
    decomposed: bool = True,
) -> torch.export.ExportedProgram:
    """The program of `model`, decomposed if wanted, by the first way that works: strict or not."""
    problems: list[Exception] = []
    for strict in ways:
        call = "torch.export.export(model, …)"
        try:
            program: Any = torch.export.export(model, inputs, kwargs, dynamic_shapes=dynamic_shapes, strict=strict)
            if decomposed:
                call += ".run_decompositions()"
                # In here, because what strict export makes of an autocast region cannot be decomposed.
                program = program.run_decompositions(table())
            exported: torch.export.ExportedProgram = program
            return exported
        except Exception as problem:  # torch.export raises many unrelated types; all mean the same here
            problems.append(problem)
            if strict:
                _LOG.info("strict export failed (%s); trying without", first_line(problem))
    last = problems[-1]
    what, fix = _explained(last, call)
    raise ExportError(f"the model cannot be exported to a graph: {what}", where=type(model).__name__, fix=fix) from last


def _explained(problem: Exception, call: str) -> tuple[str, str]:
    """What torch says, and what helps against it; `call` is what failed."""
    names = {kind.__name__ for kind in type(problem).__mro__}
    if "GuardOnDataDependentSymNode" in names:
        return first_line(problem), "remove branches on tensor values (use torch.where or torch.cond)"
    if names & {"ConstraintViolationError", "UserError"}:
        fix = "give example inputs and dynamic_shapes that fit the model and each other"
        if "specialized it to be a constant" in str(problem):
            fix = (
                "where the model takes sizes of two inputs to be equal, give both axes the same dim (on the command "
                "line, a --dynamic for each); leave axes that it fixes out of dynamic_shapes"
            )
        return _first_lines(problem), fix
    return (
        f"{type(problem).__name__}: {_first_lines(problem)}",
        f"{call} has to work, without lower86 too: look there; torch's own report is the cause of this error",
    )


def _first_lines(problem: Exception) -> str:
    said = _ADVICE.sub("", str(problem))
    lines = [line.strip() for line in said.splitlines() if line.strip()][:_LINES]
    if lines and lines[-1].endswith("fixes:"):
        del lines[-1]  # which are not among the lines
    return "\n    ".join(lines) or type(problem).__name__


def plain_graph(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GraphModule:
    """A float model as the graph that PT2E quantizes; one that is a graph already, as it is.

    Raises ExportError if it cannot be traced, or is in training mode.
    """
    if isinstance(model, GraphModule):
        return model
    if model.training:
        raise ExportError("the float model is in training mode", where=type(model).__name__, fix="call model.eval()")
    _check(model, args, kwargs)
    problem: Exception | None = None
    for strict in (True, False):
        try:
            with torch.no_grad(), specs_copied_quietly():
                module = torch.export.export(model, args, kwargs, strict=strict).module(check_guards=False)
        except Exception as found:  # torch.export raises many unrelated types; all mean the same here
            problem = found
            continue
        assert isinstance(module, GraphModule)
        return module
    assert problem is not None
    what, fix = _explained(problem, "torch.export.export(model, …)")
    raise ExportError(f"the float model cannot be exported to a graph: {what}", where=type(model).__name__, fix=fix)
