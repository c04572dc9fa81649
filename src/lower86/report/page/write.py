"""`lower86.write_report`: a model as one HTML page."""

from __future__ import annotations

import os
from typing import Any

from ...errors import Lower86Error
from ...whole_file import write_whole
from ..comparison import Comparison
from .data import Inputs, gather
from .facts import Facts
from .render import page


def write_report(
    model: Any,
    path: str | os.PathLike[str],
    *,
    inputs: Inputs = None,
    comparison: Comparison | None = None,
    name: str = "model",
    file_bytes: int | None = None,
    seconds: float = 1.0,
) -> int:
    """Writes what is known of a lowered or loaded model, and how long each of its steps takes, as one HTML file.

    The file needs no network and no other file. It takes `pip install 'lower86[report]'`, and no PyTorch.

    Args:
        model: what `lower_pt2e_quantized_to_x86` or `lower86.load` returned.
        path: where to; a file that is there is replaced, when all of the new one is written.
        inputs: of the calls that are timed: a tuple of positional arguments, or flat inputs by name; arrays or tensors.
            None for random numbers, integers within the bounds that the model checks them against.
        comparison: what `lower86.compare` returned, for a part on accuracy.
        name: of the model, to stand above.
        file_bytes: the size of the model's file, where it has one.
        seconds: for how long to time it, about.

    Returns:
        The size of the page in bytes.

    Raises:
        Lower86Error: `model` is no such model, a package is missing, or the file cannot be written.
        InputError: the inputs do not fit, or none can be made up.
    """
    return write_page(gather(model, inputs, comparison, name=name, file_bytes=file_bytes, seconds=seconds), path)


def write_page(facts: Facts, path: str | os.PathLike[str]) -> int:
    """Writes the page of these facts, whole or not at all; gives its size in bytes. Raises Lower86Error."""
    content = page(facts).encode()
    try:
        return write_whole(path, lambda file: file.write(content))
    except OSError as problem:
        raise Lower86Error(
            f"{os.fspath(path)} cannot be written: {problem.strerror or problem}",
            where="lower86.write_report",
            fix="choose a folder that exists, can be written to and has room",
        ) from problem
