"""Exported programs: `.pt2` files, as torch.export.load reads them and torch.export.save writes them."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.fx import GraphModule

from ..errors import ExportError, Lower86Error, first_line
from ..frontend import torchao  # noqa: F401  # registers the operators that quantized programs hold
from ..frontend.dim_names import carried
from ..frontend.dynamic import kept_dims, larger_examples
from ..graph.dim_names import Axis, mark_dims
from ..graph.pytrees import specs_copied_quietly
from .archive import reasons, trouble
from .model import ModelSource
from .naming import Example, inputs_of

_NAMES = "lower86_dims.json"
"""A file within a `.pt2`: [number of the input, axis, name] for each dim that a user has named; torch keeps none."""


def from_exported(path: Path) -> ModelSource:
    """The program of a file, float or quantized. It is torch's own format, and trusted as code is.

    Raises Lower86Error for what torch cannot load.
    """
    try:
        with path.open("rb") as file:
            content = io.BytesIO(file.read())
    except OSError as problem:
        raise Lower86Error(f"{path} cannot be read: {problem.strerror or problem}", where="model") from problem
    extra = {_NAMES: ""}
    with specs_copied_quietly(), reasons() as logged:
        try:
            program = torch.export.load(content, extra_files=extra)
        except Exception as problem:  # torch raises whatever the first thing that it misses raises
            what, fix = trouble(content.getvalue(), logged[0] if logged else problem)
            raise Lower86Error(f"{path} is no exported program: {what}", where="model", fix=fix) from problem
    return of_program(program, path.stem, _read(extra[_NAMES]))


def of_program(
    program: torch.export.ExportedProgram, name: str, names: Mapping[Axis, str] | None = None
) -> ModelSource:
    """A program as a source; what varies in it stays so, and is called as `names` says, or as it was exported."""
    with specs_copied_quietly():
        module = plain_module(program)
    mark_dims(module.graph, names or {})
    given = program.example_inputs
    example = None if given is None else Example(tuple(given[0]), dict(given[1]))
    return ModelSource(name, module, example, None, inputs_of(module, example, None))


def plain_module(program: torch.export.ExportedProgram) -> GraphModule:
    """The program's graph, with its weights as attributes."""
    module = program.module(check_guards=False)
    assert isinstance(module, GraphModule)
    return module


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
            names = carried(model, plain_module(program), args, kwargs)
            content = io.BytesIO()
            torch.export.save(program, content, extra_files={_NAMES: _written(names)})
    except Exception as problem:  # torch.export raises many unrelated types; all mean the same here
        raise ExportError(
            f"the quantized model cannot be written as an exported program: {first_line(problem)}",
            where="torch.export",
            fix="write a .safetensors file instead, which is lowered",
        ) from problem
    return content.getvalue()


def _written(names: Mapping[Axis, str]) -> str:
    return json.dumps([[number, axis, name] for (number, axis), name in names.items()])


def _read(text: object) -> dict[Axis, str]:
    """What `_written` wrote. The file may be another's: what is no such list is nothing.

    Torch itself refuses one that is no text.
    """
    try:
        found = json.loads(text) if isinstance(text, (str, bytes)) else []
    except (ValueError, RecursionError):
        return {}
    rows = [row for row in found if isinstance(row, list) and len(row) == 3] if isinstance(found, list) else []
    return {(row[0], row[1]): row[2] for row in rows if [type(part) for part in row] == [int, int, str]}
