"""What a process of `artifact/start.py` does: nothing but load a saved model and call it once, with the time told."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import Lower86Error
from .load import load


def report(task: str, running: float) -> None:
    """Prints a line of JSON: what `Start` has, or the problem. `running` is when Python ran, by the system clock."""
    imported = time.monotonic()
    given: dict[str, Any] = json.loads(task)
    try:
        found = {"python": running - given["began"], "imports": imported - running, **_first_result(given)}
    except Lower86Error as error:
        found = {"problem": error.what}
    print(json.dumps(found))


def _first_result(task: Mapping[str, Any]) -> dict[str, Any]:
    with np.load(f"{task['folder']}/inputs.npz", allow_pickle=False) as file:
        inputs = dict(zip(task["names"], [file[name] for name in file.files], strict=True))
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak counts from here
    before = _resident("VmRSS")
    start = time.perf_counter()
    program = load(task["model"], target=task["target"], num_threads=task["threads"])
    loaded = time.perf_counter()
    program.run(inputs)
    done = time.perf_counter()
    return {"load": loaded - start, "first": done - loaded, "peak": _resident("VmHWM"), "before": before}


def _resident(name: str) -> int:
    """A line of the process's status that is in kB, in bytes."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))
