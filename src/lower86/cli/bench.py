"""`lower86 bench`: how fast a saved model is here."""

from __future__ import annotations

import json
import resource
import time
from typing import Annotated

import typer

from .inputs import Inputs, Json, Level, Model, Sizes, Threads, arrays
from .progress import working


def bench(
    model: Model,
    inputs: Inputs = None,
    sizes: Sizes = None,
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=0.0)] = 5.0,
    warm_up: Annotated[float, typer.Option(help="How long to call before that, in seconds.", min=0.0)] = 1.0,
    streams: Annotated[int, typer.Option(help="Calls at once, for throughput.", min=1)] = 1,
    target: Level = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measures latency (percentiles), throughput, load time and memory; made-up inputs if none are given.

    With several streams each call runs on its share of the threads, unless --threads says on how many.
    """
    from ..artifact.load import load
    from ..report.benchmark import benchmark
    from ..runtime.threads import default_threads

    threads = threads or max(1, default_threads() // streams)
    start = time.perf_counter()
    program = load(model, target=target, num_threads=threads)
    loaded = time.perf_counter() - start
    given = arrays(program, inputs, sizes)
    with working(f"measuring {model} for {warm_up + seconds:g} s", as_json):
        found = benchmark(program.run, given, seconds=seconds, warm_up=warm_up, streams=streams)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if as_json:
        print(json.dumps({**found.to_dict(), "load": loaded, "threads": threads, "peak_memory": memory}))
        return
    print(found)
    print(f"loaded in {loaded:.3f} s; {threads} threads a call; at most {memory / 1e6:.0f} MB were resident")
