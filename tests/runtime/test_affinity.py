"""Lists of CPUs, and a process that runs on them alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lower86
from lower86.errors import InputError
from lower86.runtime.affinity import cpu_list, pin

PINNED = """
import os, sys, threading
from lower86.runtime.affinity import pin
from lower86.runtime.threads import default_threads
before, found = threading.Event(), []
def look():
    before.wait()
    found.append(os.sched_getaffinity(0))
earlier = threading.Thread(target=look)
earlier.start()
pin([int(sys.argv[1])])
before.set()
earlier.join()
later = threading.Thread(target=look)
later.start()
later.join()
print(found == [{int(sys.argv[1])}] * 2, default_threads())
"""


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", (0,)), ("3,1", (1, 3)), ("0-3", (0, 1, 2, 3)), ("4-5, 1", (1, 4, 5)), ("2,2-2", (2,))]
)
def test_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1", "0-", "1-2-3", "0-99999", "0-999999999999", "²"])
def test_no_lists(text: str) -> None:
    with pytest.raises(InputError, match="CPUs"):
        cpu_list(text)


def test_a_process_runs_where_it_is_pinned() -> None:
    cpu = max(os.sched_getaffinity(0))
    environment = {**os.environ, "PYTHONPATH": str(Path(lower86.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PINNED, str(cpu)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "1"]


def test_cpus_that_are_not_there() -> None:
    before = os.sched_getaffinity(0)
    for wrong in ([], [60_000], [min(before), 60_000]):
        with pytest.raises(InputError, match="cannot run on"):
            pin(wrong)
    assert os.sched_getaffinity(0) == before
