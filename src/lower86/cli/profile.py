"""`lower86 profile`: where the time of a call goes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from .inputs import MOST_SECONDS, Inputs, Json, Level, Model, Shapes, Threads, arrays
from .progress import working
from .text import printable


def profile(
    model: Model,
    inputs: Inputs = None,
    shapes: Shapes = None,
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=0.0, max=MOST_SECONDS)] = 2.0,
    target: Level = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Times every kernel, beside the CPU's int8 peak.

    Inputs are made up if none are given.
    """
    from ..artifact.load import load

    program = load(model, target=target, num_threads=threads)
    given = arrays(program, inputs, shapes)
    with working(f"timing {model} for {seconds:g} s", as_json):
        found = program.profile_run(given, seconds=seconds)
    print(json.dumps(asdict(found)) if as_json else printable(str(found)))
