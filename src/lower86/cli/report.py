"""`lower86 report`: what is known of a saved model, and where the time of a call goes, as one HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .inputs import Inputs, Json, Level, Model, Sizes, Threads, arrays
from .text import printable


def report(
    model: Model,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to: an .html file.")] = None,
    inputs: Inputs = None,
    sizes: Sizes = None,
    seconds: Annotated[float, typer.Option(help="For how long to time it.", min=0.01, max=600)] = 1.0,
    target: Level = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Times a saved model step by step, and writes all that is known of it as one HTML page."""
    from ..artifact.load import load
    from ..report.page.data import gather
    from ..report.page.write import write_page

    if output is None and not as_json:
        raise typer.BadParameter("where to? -o report.html, or --json", param_hint="--output")
    program = load(model, target=target, num_threads=threads)
    given = arrays(program, inputs, sizes) if inputs or sizes else None
    facts = gather(program, given, name=model.stem, file_bytes=model.stat().st_size, seconds=seconds)
    written = None if output is None else write_page(facts, output)
    if as_json:
        print(json.dumps(facts.to_json(), allow_nan=False))
    elif written is not None:
        print(printable(f"wrote {output}, {written / 1e3:.0f} kB"))
