"""`module:function`: code of the user's own that gives a model, or the items of a data set."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import torch
from torch import nn

from ..errors import Lower86Error, first_line
from .model import ModelSource
from .naming import Example, inputs_of

_GIVES = "a torch.nn.Module, (module, example_inputs), or (module, example_inputs, dynamic_shapes)"


def from_function(name: str) -> ModelSource:
    """The model that `module:function` gives. Raises Lower86Error where there is none, or its code fails."""
    found = called(name, "model")
    parts = found if isinstance(found, (tuple, list)) else (found,)
    if len(parts) not in (1, 2, 3):
        raise Lower86Error(f"{name} gives {len(parts)} things", where="model", fix=f"return {_GIVES}")
    model, given, shapes = (*parts, None, None)[:3]
    if isinstance(model, torch.export.ExportedProgram):
        from .exported import of_program

        return of_program(model, name.rpartition(":")[2])
    if not isinstance(model, nn.Module):
        raise Lower86Error(f"{name} gives a {type(model).__name__}", where="model", fix=f"return {_GIVES}")
    if given is not None and not isinstance(given, (tuple, list)):
        given = (given,) if isinstance(given, torch.Tensor) else given
    if given is not None and not isinstance(given, (tuple, list)):
        raise Lower86Error(
            f"the example inputs of {name} are a {type(given).__name__}, not a tuple",
            where="model",
            fix="return the positional arguments of one call in a tuple",
        )
    example = None if given is None else Example(tuple(given), {})
    if not isinstance(model, torch.fx.GraphModule):
        model.eval()  # an exported graph has no modes, and says so by an error
    return ModelSource(name.rpartition(":")[2], model, example, shapes, inputs_of(model, example, shapes))


def called(name: str, where: str) -> Any:
    """What `module:function` gives, called without arguments; a thing that is no function, as it is.

    Modules in the current directory are found. Raises Lower86Error, with the code's own error as its cause.
    """
    module_name, _, path = name.partition(":")
    if not (module_name and path and all(part.isidentifier() for part in f"{module_name}.{path}".split("."))):
        raise Lower86Error(f"{name!r} is not module:function", where=where, fix=f"give {_meant(module_name, path)}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as problem:  # whatever the user's module does when it is imported
        missing = isinstance(problem, ModuleNotFoundError) and module_name.startswith(problem.name or "\0")
        raise Lower86Error(
            f"there is no module {module_name}"
            if missing
            else f"importing {module_name} failed: {type(problem).__name__}: {first_line(problem)}",
            where=where,
            fix=_where_to_look(module_name, path) if missing else "--debug shows where",
        ) from problem
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, vars(found), n=1) if hasattr(found, "__dict__") else []
            raise Lower86Error(
                f"{module_name} has no {path}", where=where, fix=f"did you mean {near[0]}?" if near else "see the file"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module) or not callable(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as problem:  # whatever the user's function raises
        raise Lower86Error(
            f"{name} failed: {type(problem).__name__}: {first_line(problem)}", where=where, fix="--debug shows where"
        ) from problem


def _meant(module_name: str, path: str) -> str:
    """A file's name, as people give it, in the form that is taken."""
    file = os.path.normpath(module_name)
    parts = file.removesuffix(".py").split(os.sep)
    if file.endswith(".py") and all(part.isidentifier() for part in parts):
        return f"{'.'.join(parts)}:{path or 'make'}"
    return "such as package.module:make"


def _where_to_look(module_name: str, path: str) -> str:
    if module_name.endswith(".py"):
        return f"name the module, not its file: {_meant(module_name, path)}"
    return "run this where the module lies, or install it"
