"""`lower86 run`: one call of a saved model on arrays from files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .inputs import Inputs, Json, Level, Model, Threads, named_files, read_array
from .making import suffix_of
from .output import check_writable, write_output
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
    if output is not None:
        suffix_of(output, (".npz",))
        check_writable(output)
    start = time.perf_counter()
    program = load(model, target=target, num_threads=threads)
    loaded = time.perf_counter()
    results = program.run({name: read_array(path) for name, path in files.items()})
    ran = time.perf_counter()
    arrays: dict[str, Any] = {name: result for name, result in results.items() if isinstance(result, np.ndarray)}
    if output is not None:
        write_output(output, lambda file: np.savez(file, **arrays))
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


def _shown(array: Any) -> str:
    kind = f"{array.dtype} {list(array.shape)}"
    if not array.size:
        return kind
    if array.size == 1:
        return f"{kind} = {array.reshape(-1)[0]}"
    return f"{kind}, min {array.min():.6g}, mean {array.mean():.6g}, max {array.max():.6g}"
