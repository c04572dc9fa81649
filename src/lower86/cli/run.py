"""`lower86 run`: one call of a saved model on arrays from files."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Lower86Error
from .inputs import Inputs, Json, Level, Model, Threads, named_files, read_array
from .text import printable


def run(
    model: Model,
    inputs: Inputs = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to: an .npz file of all outputs.")
    ] = None,
    target: Level = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Runs a saved model once on arrays from .npy files."""
    import numpy as np

    from ..artifact.load import load

    files = named_files(inputs)
    start = time.perf_counter()
    program = load(model, target=target, num_threads=threads)
    loaded = time.perf_counter()
    results = program.run({name: read_array(path) for name, path in files.items()})
    ran = time.perf_counter()
    arrays = {name: result for name, result in results.items() if isinstance(result, np.ndarray)}
    if output is not None:
        _write(output, arrays)
    if as_json:
        described = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()}
        literals = {name: {"value": value} for name, value in results.items() if name not in arrays}
        seconds = {"load": loaded - start, "run": ran - loaded}
        where = None if output is None else str(output)
        print(json.dumps({"outputs": described | literals, "output": where, "seconds": seconds}))
        return
    for name, result in results.items():
        print(printable(f"{name}: {_shown(result) if name in arrays else repr(result)}"))
    print(f"loaded in {loaded - start:.3f} s, ran in {ran - loaded:.4f} s" + (f", wrote {output}" if output else ""))


def _write(path: Path, arrays: dict[str, Any]) -> None:
    """Whole or not at all, as a model is saved."""
    import numpy as np

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.resolve().parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **arrays)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as problem:
        raise Lower86Error(
            f"{path} cannot be written: {problem.strerror or problem}",
            where="--output",
            fix="choose a folder that exists and can be written to",
        ) from problem


def _shown(array: Any) -> str:
    kind = f"{array.dtype} {list(array.shape)}"
    if not array.size:
        return kind
    if array.size == 1:
        return f"{kind} = {array.reshape(-1)[0]}"
    return f"{kind}, min {array.min():.6g}, mean {array.mean():.6g}, max {array.max():.6g}"
