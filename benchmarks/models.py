"""Whole models in int8: lower86 and its peers on the same work, in turns, in one process.

    python benchmarks/models.py [CASE …] [--only PEER …] [--rounds 40] [--busy] [--json FILE]

Every contender is warmed up by time and then has turns in random order; a call takes the next of several inputs, and
the results of all inputs are compared after the timing. With --busy, another process keeps one core busy meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cases import CASES, Case
from json_output import add_json, write_json

from minilm.measure import interleave, ratios, samples
from minilm.quiet import silence

silence()

import torch  # noqa: E402
from peers import PEERS, Run, Unsuited, missing, quantized  # noqa: E402
from torch import Tensor  # noqa: E402

WARM_UP = 0.6
UNIT = "lower86"


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Peers talk while they quantize and compile; what they say is shown only if they fail."""
    heard = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            warnings.simplefilter("ignore")
            yield
    except BaseException:
        print(heard.getvalue(), file=sys.stderr)
        raise
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _neighbour(wanted: bool) -> Iterator[None]:
    """A process that does nothing, as fast as it can."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


class _Contender:
    """Calls with the next input each time; keeps each input's last result."""

    def __init__(self, run: Run, case: Case) -> None:
        self._run, self._turns = run, itertools.cycle(enumerate(case.inputs))
        self.results: dict[int, Tensor] = {}

    def __call__(self) -> None:
        number, inputs = next(self._turns)
        self.results[number] = self._run(inputs)


def _contenders(case: Case, names: list[str], threads: int) -> dict[str, _Contender]:
    with _without_noise():
        model = quantized(case)
    made = {}
    for name in names:
        lacking = missing(PEERS[name])
        if lacking:
            print(f"  {name}: not measured, {', '.join(lacking)} not installed (make bench PEERS=1)")
            continue
        try:
            with _without_noise():
                contender = _Contender(PEERS[name].make(case, model, threads), case)
                contender()  # some compile at their first call
        except Unsuited as reason:
            print(f"  {name}: not measured, {reason}")
            continue
        made[name] = contender
    return made


def _cosine(got: Mapping[int, Tensor], expected: list[Tensor]) -> float:
    """The least cosine similarity of a result to the float model's, over the inputs."""
    pairs = [(got[i].double().flatten(), expected[i].double().flatten()) for i in got]
    return min(torch.cosine_similarity(a, b, dim=0).item() for a, b in pairs)


def measure(case: Case, names: list[str], rounds: int, busy: bool) -> list[dict[str, Any]]:
    """Prints the table of one case; returns its rows."""
    threads = torch.get_num_threads()
    print(f"{case.name}; {threads} threads{', beside one busy process' if busy else ''}", flush=True)
    contenders = _contenders(case, names, threads)
    calls: dict[str, Callable[[], None]] = dict(contenders)
    for call in calls.values():
        end = time.perf_counter() + WARM_UP
        while time.perf_counter() < end:
            call()
    with _neighbour(busy):
        taken = list(interleave(calls, rounds))
    with torch.no_grad():
        expected = [case.model(*inputs) for inputs in case.inputs]
    times, relative = samples(taken), ratios(taken, UNIT) if UNIT in calls else {}
    rows = []
    for name, contender in contenders.items():
        ms = times[name]
        row = {
            "case": case.name, "busy": busy, "name": name, "min": ms[0], "median": ms[len(ms) // 2],
            "p99": ms[min(len(ms) - 1, int(0.99 * len(ms)))], "ratio": relative.get(name),
            "cosine": _cosine(contender.results, expected),
        }  # fmt: skip
        rows.append(row)
        ratio = f"{row['ratio']:6.2f} x {UNIT}" if relative else ""
        print(
            f"  {name:20s} median {row['median']:8.3f} ms  min {row['min']:8.3f}  p99 {row['p99']:8.3f}  {ratio}"
            f"  cosine to fp32 {row['cosine']:.4f}",
            flush=True,
        )
    return rows


def main() -> None:
    """Measures the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--busy", action="store_true")
    add_json(parser)
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    rows = []
    for name in options.cases or CASES:
        rows += measure(CASES[name](), options.only, options.rounds, options.busy)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
