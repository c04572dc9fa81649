"""`lower86 report`: what is known of a saved model, and where the time of a call goes, as one HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .inputs import Inputs, Json, Level, Model, Shapes, Threads, arrays
from .output import check_writable
from .progress import working
from .text import printable

if TYPE_CHECKING:
    from ..report.comparison import Comparison


def report(
    model: Model,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to: an .html file.")] = None,
    comparison: Annotated[
        Path | None,
        typer.Option("--comparison", help="What lower86 compare -o wrote."),
    ] = None,
    inputs: Inputs = None,
    shapes: Shapes = None,
    seconds: Annotated[float, typer.Option(help="For how long to time it.", min=0.01, max=600)] = 1.0,
    target: Level = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Writes all that is known of a model as a web page.

    The model is timed step by step; the page is one HTML file that needs no network.
    """
    from ..artifact.load import load
    from ..report.page.data import gather
    from ..report.page.write import write_page

    if output is None and not as_json:
        raise typer.BadParameter("where to? -o report.html, or --json", param_hint="--output")
    if output is not None:
        check_writable(output)
    compared = None if comparison is None else _comparison(comparison)
    program = load(model, target=target, num_threads=threads)
    given = arrays(program, inputs, shapes) if inputs or shapes else None
    with working(f"timing {model}", as_json):
        facts = gather(program, given, compared, name=model.stem, file_bytes=model.stat().st_size, seconds=seconds)
    written = None if output is None else write_page(facts, output)
    if as_json:
        print(json.dumps(facts.to_json(), allow_nan=False))
    elif written is not None:
        print(printable(f"wrote {output}, {written / 1e3:.0f} kB"))


def _comparison(path: Path) -> Comparison:
    """What a file holds. Raises InputError where it cannot be read, Lower86Error where it is no comparison."""
    from ..report.comparison import Comparison

    try:
        return Comparison.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        said = getattr(problem, "strerror", None) or "it is no text"
        raise InputError(
            f"{path} cannot be read: {said}", where="--comparison", fix="give what lower86 compare -o wrote"
        ) from problem
