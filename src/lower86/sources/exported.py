"""Exported programs: `.pt2` files, as torch.export.load reads them and torch.export.save writes them."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from ..errors import ExportError, Lower86Error, first_line
from ..frontend import torchao  # noqa: F401  # registers the operators that quantized programs hold
from ..frontend.dynamic import kept_dims, larger_examples
from ..graph.pytrees import specs_copied_quietly
from .model import ModelSource
from .naming import Example, inputs_of


def from_exported(path: Path) -> ModelSource:
    """The program of a file, float or quantized. It is torch's own format, and trusted as code is.

    Raises Lower86Error for what torch cannot load.
    """
    try:
        with path.open("rb") as file:
            content = io.BytesIO(file.read())
    except OSError as problem:
        raise Lower86Error(f"{path} cannot be read: {problem.strerror or problem}", where="model") from problem
    try:
        with specs_copied_quietly():
            program = torch.export.load(content)
    except Exception as problem:  # torch raises whatever the first thing that it misses raises
        raise Lower86Error(
            f"{path} is no exported program: {first_line(problem)}",
            where="model",
            fix="write it by torch.export.save or lower86 quantize, in a version of torch that this one can read",
        ) from problem
    return of_program(program, path.stem)


def of_program(program: torch.export.ExportedProgram, name: str) -> ModelSource:
    """A program as a source; what varies in it stays so."""
    with specs_copied_quietly():
        module: Any = program.module(check_guards=False)
    given = program.example_inputs
    example = None if given is None else Example(tuple(given[0]), dict(given[1]))
    return ModelSource(name, module, example, None, inputs_of(module, example, None))


def exported_bytes(model: GraphModule, example: Example) -> bytes:
    """What a `.pt2` file of a quantized model holds: its graph, with the dims that vary in it.

    Raises ExportError where torch cannot export or write it.
    """
    shapes = kept_dims(model, example.args, example.kwargs)
    args, kwargs = example.args, dict(example.kwargs)
    try:
        with torch.no_grad(), specs_copied_quietly():
            if shapes is not None:
                args, kwargs = larger_examples(model, args, kwargs, shapes)
            # Made anew, it has what the graph reads, and no longer the float weights that were quantized.
            bare = GraphModule(model, copy.deepcopy(model.graph))
            program = torch.export.export(bare, args, kwargs, dynamic_shapes=shapes, strict=False)
            content = io.BytesIO()
            torch.export.save(program, content)
    except Exception as problem:  # torch.export raises many unrelated types; all mean the same here
        raise ExportError(
            f"the quantized model cannot be written as an exported program: {first_line(problem)}",
            where="torch.export",
            fix="write a .safetensors file instead, which is lowered",
        ) from problem
    return content.getvalue()
