"""What a process of `artifact/start.py` does: nothing but load a saved model and call it once, with the time told.

Its imports are those of a program that runs a model, so they stand where they are timed.
"""

import time

_running = time.monotonic()  # of the whole system: the parent says when it began

import contextlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Times in seconds and memory in bytes, as `Start` has them."""
    import numpy as np

    from .load import load

    imported = time.monotonic()
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
    return {
        "python": _running - task["began"], "imports": imported - _running, "load": loaded - start,
        "first": done - loaded, "peak": _resident("VmHWM"), "before": before,
    }  # fmt: skip


def _resident(name: str) -> int:
    """A line of the process's status that is in kB, in bytes."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


if __name__ == "__main__":
    from ..errors import Lower86Error

    try:
        print(json.dumps(main(json.loads(sys.argv[1]))))
    except Lower86Error as error:
        print(json.dumps({"problem": error.what}))
