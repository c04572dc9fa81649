"""Whole models in int8: lower86 and its peers on the same work, in turns, in one process.

    python benchmarks/models.py [CASE …] [--only PEER …] [--rounds 40] [--busy] [--json FILE]

Every contender is warmed up by time and then has turns in random order; a call takes the next of several inputs, and
the results of all inputs are compared after the timing. With --busy, another process keeps one core busy meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from cases import CASES, Case, add_cases
from json_output import add_json, write_json

from minilm.quiet import silence

silence()

import torch  # noqa: E402
from peers import PEERS  # noqa: E402

from lower86.peers.contest import cosines, field_of, warm_up  # noqa: E402
from lower86.report.percentile import percentile  # noqa: E402
from lower86.report.turns import interleave, ratios, samples  # noqa: E402

UNIT = "lower86"


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


def measure(case: Case, names: list[str], rounds: int, busy: bool) -> list[dict[str, Any]]:
    """Prints the table of one case; returns its rows."""
    threads = torch.get_num_threads()
    print(f"{case.name}; {threads} threads{', beside one busy process' if busy else ''}", flush=True)
    field = field_of(case, {name: PEERS[name] for name in names}, threads, "make bench PEERS=1")
    for note in field.notes:
        print(f"  {note}")
    for name, reason in field.left_out.items():
        print(f"  {name}: not measured, {reason}")
    if not field.contenders:
        return []
    warm_up(field.contenders)
    with _neighbour(busy):
        taken = list(interleave(field.contenders, rounds))
    likeness = cosines(case, field.contenders)
    times, relative = samples(taken), ratios(taken, UNIT) if UNIT in field.contenders else {}
    rows = []
    for name, contender in field.contenders.items():
        ms = times[name]
        row = {
            "case": case.name, "busy": busy, "name": name, "min": ms[0], "median": percentile(ms, 0.5),
            "p99": percentile(ms, 0.99), "ratio": relative.get(name),
            "cosine": likeness[name], "prepared": contender.prepared, "first": contender.first,
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
    add_cases(parser)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--busy", action="store_true")
    add_json(parser)
    options = parser.parse_args()
    rows = []
    for name in options.cases or CASES:
        rows += measure(CASES[name](), options.only, options.rounds, options.busy)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
