"""`lower86 report`: what is known of a saved model, and where the time of a call goes, as one HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .run import named, read_array
from .text import printable


def report(
    model: Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to: an .html file.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=FILE.npy", help="An input, once for each; none: random numbers."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For how long to time it.", min=0.01, max=600)] = 1.0,
    target: Annotated[str | None, typer.Option(help="A lower level than this CPU's, such as avx2.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads to run on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the page would say as JSON.")] = False,
) -> None:
    """Times a saved model step by step, and writes all that is known of it as one HTML page."""
    from ..artifact.load import load
    from ..report.page.data import gather
    from ..report.page.write import write_page

    if output is None and not as_json:
        raise typer.BadParameter("where to? -o report.html, or --json", param_hint="--output")
    files = dict(named(one) for one in inputs or ())
    if len(files) != len(inputs or ()):
        raise InputError("an input is given twice", where="--input", fix="give each name once")
    program = load(model, target=target, num_threads=threads)
    specs = {spec.name: spec for spec in program.inputs}
    arrays = {name: read_array(path, specs.get(name)) for name, path in files.items()} or None
    facts = gather(program, arrays, name=model.stem, file_bytes=model.stat().st_size, seconds=seconds)
    written = None if output is None else write_page(facts, output)
    if as_json:
        print(json.dumps(facts.to_json(), allow_nan=False))
    elif written is not None:
        print(printable(f"wrote {output}, {written / 1e3:.0f} kB"))
