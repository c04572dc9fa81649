"""`lower86 bench`: how fast a saved model is here, or a float model in int8 beside other runtimes (`beside.py`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..counted import counted
from ..errors import InputError
from .beside import beside, check_alone
from .inputs import (
    MOST_SECONDS,
    MOST_STREAMS,
    MOST_THREADS,
    Cpus,
    Inputs,
    Json,
    Level,
    Shapes,
    Threads,
    arrays,
    pinned,
)  # fmt: skip
from .making import Batch, Length, Samples
from .progress import working
from .text import printable

if TYPE_CHECKING:
    from ..artifact import LoadedProgram


def bench(
    model: Annotated[
        Path,
        typer.Argument(help="A file that lower86.save wrote; with --peers a .pt2, module:function, or HF folder."),
    ],
    inputs: Inputs = None,
    shapes: Shapes = None,
    seconds: Annotated[float, typer.Option(help="How long to measure.", min=0.0, max=MOST_SECONDS)] = 5.0,
    warm_up: Annotated[float, typer.Option(help="Seconds of calls before that.", min=0.0, max=MOST_SECONDS)] = 1.0,
    streams: Annotated[int, typer.Option(help="Calls at once, for throughput.", min=1, max=MOST_STREAMS)] = 1,
    start: Annotated[bool, typer.Option(help="Time the first inference of fresh processes, too.")] = True,
    target: Level = None,
    threads: Threads = None,
    cpus: Cpus = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Beside: all, or some of openvino,onnxruntime,inductor,torchao,pytorch. Takes --data."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="With --peers: inputs to calibrate and to time with.")] = None,
    recipe: Annotated[str, typer.Option(help="With --peers: lower86's, fast, balanced or accurate.")] = "balanced",
    rounds: Annotated[int, typer.Option(help="With --peers: turns of each.", min=1, max=100_000)] = 20,
    samples: Samples = 300,
    batch: Batch = None,
    length: Length = None,
    as_json: Json = False,
) -> None:
    """Measures latency and memory; or the model beside its peers.

    Latency in percentiles, throughput, first inference, memory; on made-up inputs if none are given. With several
    streams each call runs on its share of the threads, unless --threads says on how many.

    With --peers it takes a float model and --data: lower86 and others quantize it, and have turns in one run.
    """
    pinned(cpus)
    if peers is not None:
        if data is None:
            raise InputError("--peers without --data", where="bench", fix="name inputs of the model to calibrate with")
        alone = {"--input": inputs, "--shape": shapes, "--target": target, "--streams": streams > 1}
        check_alone([name for name, given in alone.items() if given])
        beside(
            model, data, peers, recipe=recipe, rounds=rounds, warm_up=warm_up, threads=threads, samples=samples,
            batch=batch, length=length, as_json=as_json,
        )  # fmt: skip
        return
    if data is not None or model.is_dir() or model.suffix == ".pt2" or (":" in str(model) and not model.exists()):
        raise InputError(
            f"{model} can be measured beside others only",
            where="bench",
            fix="add --data DATA --peers all, or name a saved model",
        )
    from ..artifact.load import load
    from ..artifact.start import measured_starts
    from ..report.benchmark import benchmark
    from ..report.environment import environment
    from ..runtime.code_cache import counters
    from ..runtime.threads import default_threads

    if streams * (threads or 1) > MOST_THREADS:
        raise InputError(
            f"{streams} streams of {counted(threads or 1, 'thread')} are more than {MOST_THREADS} threads",
            where="bench",
            fix="ask for fewer of them",
        )
    available, before = default_threads(), counters.compiled
    threads = threads or max(1, available // streams)
    began = time.perf_counter()
    program = load(model, target=target, num_threads=threads)
    loaded = time.perf_counter() - began
    compiled = counters.compiled - before
    given = arrays(program, inputs, shapes)
    own = bool(program.program.states) and streams > 1
    run = _run_of_each_thread(lambda: load(model, target=target, num_threads=threads)) if own else program.run
    with working(f"starting {model} in fresh processes", as_json):  # nothing is drawn while calls are timed
        starts = measured_starts(model, given, threads, target) if start else None
    found = benchmark(run, given, seconds=seconds, warm_up=warm_up, streams=streams)
    about = environment(threads, program.target, ("lower86", "numpy", "llvmlite"))
    crowded = streams * threads > available
    if as_json:
        measured: dict[str, Any] = {
            "inputs": {name: {"dtype": str(one.dtype), "shape": list(one.shape)} for name, one in given.items()},
            "load": loaded,
            "kernels_compiled": compiled,
            "threads": threads,
            "crowded": crowded,
        }
        if starts is not None:
            measured["start"] = starts.to_dict()
            measured |= {"peak_memory": starts.warm.peak, "model_memory": starts.warm.model_memory}
        print(json.dumps({**found.to_dict(), **measured, "environment": about}))
        return
    print(found)
    shown = ", ".join(f"{name} {one.dtype} {list(one.shape)}" for name, one in given.items())
    print(printable(f"inputs{'' if inputs else ', made up'}: {shown or 'none'}"))
    cpus = f"{'CPU' if len(about['cpus']) == 1 else 'CPUs'} {', '.join(map(str, about['cpus']))}"
    each = counted(threads, "thread")
    print(printable(f"{each} a call, on {cpus} ({about['cpu']}, level {about['level']})"))
    if crowded:
        print(f"{streams} streams of {each} are more than {counted(available, 'CPU')}: they wait for each other")
    made = f"{counted(compiled, 'kernel')} compiled, all others cached" if compiled else "all kernels cached"
    print(f"loaded in {loaded:.3f} s, {made}")
    if starts is not None:
        print(starts)


def _run_of_each_thread(load: Callable[[], LoadedProgram]) -> Callable[[Any], Any]:
    """The `run` of a program of each thread's own: calls on one state would wait for each other."""
    mine = threading.local()

    def run(inputs: Any) -> Any:
        if not hasattr(mine, "program"):
            mine.program = load()
        return mine.program.run(inputs)

    return run
