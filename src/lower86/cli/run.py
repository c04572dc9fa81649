"""`lower86 run`: one call of a saved model on arrays from files."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, Lower86Error
from .text import printable

if TYPE_CHECKING:
    from ..artifact import TensorSpec


def run(
    model: Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=FILE.npy", help="An input, once for each; bf16 as uint16 bits."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to: an .npz file of all outputs.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="A lower level than this CPU's, such as avx2.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads to run on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Runs a saved model once on arrays from .npy files."""
    import numpy as np

    from ..artifact.load import load

    files = dict(named(one) for one in inputs or ())
    if len(files) != len(inputs or ()):
        raise InputError("an input is given twice", where="--input", fix="give each name once")
    start = time.perf_counter()
    program = load(model, target=target, num_threads=threads)
    loaded = time.perf_counter()
    specs = {spec.name: spec for spec in program.inputs}
    results = program.run({name: read_array(path, specs.get(name)) for name, path in files.items()})
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


def named(text: str) -> tuple[str, Path]:
    """Name and path of `NAME=FILE.npy`."""
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise typer.BadParameter(f"{text!r} is not NAME=FILE.npy", param_hint="--input")
    return name, Path(path)


def read_array(path: Path, spec: TensorSpec | None) -> Any:
    """The array of an .npy file: data alone, never a pickle."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(
            f"{path} cannot be read as an array: {getattr(problem, 'strerror', None) or problem}",
            where="--input",
            fix="write it by numpy.save",
        ) from problem
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays", where="--input", fix="pass one .npy file for each input")
    return array


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
