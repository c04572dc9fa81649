"""`lower86.save`: a lowered module as one file, whole or not at all."""

from __future__ import annotations

import json
import os
from typing import Any

from ..counted import counted
from ..errors import ArtifactError, UnsupportedError
from ..report.environment import versions
from ..whole_file import write_whole
from .format import MOST_HEADER_BYTES, MOST_TENSORS, Contents, Stored, write
from .saved import Saved, from_contents, to_contents

_RECORDED = ("lower86", "torch", "torchao")


def save(lowered: Any, path: str | os.PathLike[str]) -> int:
    """Writes a lowered module to a `.safetensors` file that `lower86.load` runs on any x86 machine without PyTorch.

    The file holds what the module is now: its graph as edited, its state as the last call left it. It is written beside
    its place and moved there, so that a file of this name is never half of one.

    Args:
        lowered: what `lower_pt2e_quantized_to_x86` returned.
        path: where to; a file that is there is replaced.

    Returns:
        The file's size in bytes.

    Raises:
        UnsupportedError: a step of the model runs in PyTorch, or it takes or returns what a file cannot describe.
        ArtifactError: the file cannot be written.
    """
    portable = getattr(lowered, "portable", None)
    if portable is None:
        raise UnsupportedError(
            f"a {type(lowered).__name__} is not a lowered module",
            where="lower86.save(lowered, path)",
            fix="pass what lower_pt2e_quantized_to_x86 returned; a loaded program's file can be copied",
        )
    program, interface, explanation, state = portable()
    metadata, tensors = to_contents(Saved(program, interface, explanation, state, versions(_RECORDED)))
    name = os.fspath(path)
    _check(metadata, tensors, name)
    try:
        return write_whole(name, lambda file: write(file, metadata, tensors), lasting=True)
    except OSError as problem:
        raise ArtifactError(
            f"{name} cannot be written: {problem.strerror or problem}",
            where="lower86.save",
            fix="choose a folder that exists, can be written to and has room; nothing was left there",
        ) from problem


def _check(metadata: dict[str, str], tensors: dict[str, Stored], name: str) -> None:
    """A file that is written can be loaded."""
    size = len(json.dumps(metadata)) + 200 * len(tensors)
    problem = f"{size} bytes of description, {counted(len(tensors), 'tensor')}"
    problem = problem if size > MOST_HEADER_BYTES or len(tensors) >= MOST_TENSORS else ""
    try:
        from_contents(Contents(metadata, tensors, size, ""), name)
    except ArtifactError as error:
        problem = f"{error.what} ({error.where})"
    if problem:
        raise UnsupportedError(
            f"the model is beyond what a file may hold: {problem}",
            where="lower86.save",
            fix="lower and save it in parts",
        )
