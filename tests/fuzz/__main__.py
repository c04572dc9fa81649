"""`python -m tests.fuzz`: many cases, on all CPUs; prints what became of them, and the first ones that break."""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.child import Child
from tests.fuzz.mutations import Case, Mutator, cases
from tests.fuzz.programs import programs


def search(mutator: Mutator, count: int, start: int) -> tuple[Counter[str], Counter[str], list[tuple[Case, str]]]:
    """Runs so many cases; how many became what, why they were refused, and what broke."""
    child, became, reasons, broken = Child(mutator), Counter[str](), Counter[str](), list[tuple[Case, str]]()

    @seed(start)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(list(mutator.programs)))
    def run(case: Case) -> None:
        outcome = child.run(case)
        became[outcome.what] += 1
        reasons[f"{outcome.what}: {outcome.why.partition(' at ')[0][:70]}"] += 1
        if outcome.what == "broken":
            broken.append((case, outcome.why))

    run()
    child.stop()
    return became, reasons, broken


def _job(mutator: Mutator, starts: list[tuple[int, int]], pipe: Any) -> None:
    for start, count in starts:
        pipe.send(search(mutator, count, start))
    pipe.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--reasons", action="store_true", help="list why cases were refused")
    options = parser.parse_args()
    mutator = Mutator(programs())
    print(f"seed {options.seed}: {options.cases} cases of {len(mutator.programs)} programs, {options.jobs} at once")
    context, start, pipes = multiprocessing.get_context("fork"), time.monotonic(), []
    parts = [(options.seed + first, min(_PART, options.cases - first)) for first in range(0, options.cases, _PART)]
    for job in range(options.jobs):
        ours, theirs = context.Pipe(duplex=False)
        context.Process(target=_job, args=(mutator, parts[job :: options.jobs], theirs)).start()
        theirs.close()
        pipes.append(ours)
    became, reasons, broken = Counter[str](), Counter[str](), list[tuple[Case, str]]()
    while pipes:
        for pipe in multiprocessing.connection.wait(pipes):
            try:
                counts, more, wrong = pipe.recv()
            except EOFError:
                pipes.remove(pipe)
                continue
            became, reasons, broken = became + counts, reasons + more, broken + wrong
            print(f"{sum(became.values())} cases in {time.monotonic() - start:.0f} s:", dict(became), flush=True)
            for case, why in wrong[:5]:
                print(f"\n{case}\n{why}", flush=True)
    if options.reasons:
        for reason, count in reasons.most_common():
            print(f"{count:7} {reason}")
    finished = sum(became.values()) >= options.cases * 0.9  # hypothesis leaves out what it has tried before
    print(f"{len(broken)} broken")
    return 1 if broken or not finished else 0


_PART = 500
"""Cases of one seed."""

if __name__ == "__main__":
    sys.exit(main())
