"""Arguments that several commands take, and the arrays that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..artifact import LoadedProgram

Model = Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=FILE.npy", help="An input, once for each; bf16 as uint16 bits."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=8,128", help="Of an input, where inputs are made up and sizes vary."),
]
Level = Annotated[str | None, typer.Option("--target", help="A lower level than this CPU's, such as avx2.")]
MOST_THREADS, MOST_STREAMS, MOST_SECONDS = 1024, 256, 3600
"""Bounds of options, before anything is imported: those of the package, and an hour."""
Threads = Annotated[int | None, typer.Option("--threads", help="Threads to run on.", min=1, max=MOST_THREADS)]
Cpus = Annotated[
    str | None, typer.Option("--cpus", "--pin", metavar="LIST", help="CPUs to run on, such as 0,2 or 0-3.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pinned(cpus: str | None) -> None:
    """Has the process run on the CPUs that `--cpus` names, before anything counts them. Raises InputError."""
    if cpus is not None:
        from ..runtime.affinity import cpu_list, pin

        pin(cpu_list(cpus))


def named_files(inputs: Sequence[str] | None) -> dict[str, Path]:
    """The files of `--input`, by name. Raises a usage error, or InputError for a name that is given twice."""
    pairs = [_parted(one, "NAME=FILE.npy", "--input") for one in inputs or ()]
    if len(dict(pairs)) != len(pairs):
        raise InputError("an input is given twice", where="--input", fix="give each name once")
    return {name: Path(path) for name, path in pairs}


def read_array(path: Path) -> Any:
    """The array of an .npy file: data alone, never a pickle. Raises InputError where there is none."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        said = getattr(problem, "strerror", None) or str(problem)
        if said.startswith("This file contains pickled"):  # NumPy goes on to say how to run it
            said = "it holds objects, as a pickle does, or something else than arrays"
        raise InputError(
            f"{path} cannot be read as an array: {said}",
            where="--input",
            fix="write it by numpy.save",
        ) from problem
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays", where="--input", fix="pass one .npy file for each input")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def arrays(program: LoadedProgram, inputs: Sequence[str] | None, shapes: Sequence[str] | None) -> dict[str, Any]:
    """What `--input` names; where nothing is named, made-up inputs of `--shape`."""
    from ..report.inputs import made_up_inputs

    files = named_files(inputs)
    if files and shapes:
        raise typer.BadParameter("inputs from files have shapes of their own", param_hint="--shape")
    if files:
        return {name: read_array(path) for name, path in files.items()}
    wanted = dict(_parted(one, "NAME=8,128", "--shape") for one in shapes or ())
    return dict(made_up_inputs(program.program, program.interface, {k: _shape(v) for k, v in wanted.items()}))


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.isdecimal() for size in sizes):
        raise typer.BadParameter(f"{text!r} is no shape, such as 8,128", param_hint="--shape")
    return tuple(map(int, sizes))


def _parted(text: str, form: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise typer.BadParameter(f"{text!r} is not {form}", param_hint=option)
    return name, value
