"""How a saved model starts: fresh processes that load it and call it once, without machine code in the cache and with.

What they hold is the model's: no report, no measurement, no PyTorch. So memory is measured there, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Lower86Error

_SECONDS = 600
_SCRIPT = """
import sys, time
running = time.monotonic()
sys.path = [one for one in sys.path if one]
from lower86.artifact.started import report
report(sys.argv[1], running)
"""
"""The clock is the system's, so that this process can say when it began. Modules that lie where it runs are not meant:
`python -c` would take a file of the user's that is called numpy.py for NumPy, as the process that asks does not."""


@dataclass(frozen=True)
class Start:
    """Seconds of a process from its start to the first result, part by part, and bytes of memory.

    `python` is until the interpreter runs, `imports` of lower86 and NumPy, `load` from the file to a program, `first`
    the first call. `peak` is the most that was resident while it loaded and called, `before` what was before that.
    """

    python: float
    imports: float
    load: float
    first: float
    peak: int
    before: int

    @property
    def first_inference(self) -> float:
        """Load and first call."""
        return self.load + self.first

    @property
    def model_memory(self) -> int:
        """The most that the model itself took: weights, machine code, arena, results."""
        return max(0, self.peak - self.before)

    def to_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return {**asdict(self), "first_inference": self.first_inference, "model_memory": self.model_memory}


@dataclass(frozen=True)
class Starts:
    """The first process, which has to generate the machine code, and the second, which finds it in the cache."""

    cold: Start
    warm: Start

    def to_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return {"cold": self.cold.to_dict(), "warm": self.warm.to_dict()}

    def __str__(self) -> str:
        lines = [
            f"first inference in a fresh process, {name}: {one.first_inference:.3f} s "
            f"(load {one.load:.3f}, first call {one.first:.4f}; before that Python {one.python:.3f}, imports "
            f"{one.imports:.3f})"
            for name, one in (("machine code to be generated", self.cold), ("machine code cached", self.warm))
        ]
        memory = (
            f"the model took at most {self.warm.model_memory / 1e6:.1f} MB of memory, of {self.warm.peak / 1e6:.1f}"
        )
        return "\n".join([*lines, f"{memory} MB that were resident in that process"])


def measured_starts(
    path: str | os.PathLike[str], inputs: Mapping[str, Any], threads: int, target: str | None = None
) -> Starts:
    """Two fresh processes, one after the other, with a code cache of their own that is empty at first.

    `inputs` are arrays by flat name. The file itself is in the system's memory already if anybody has read it before,
    as it is for the second process. Raises Lower86Error if such a process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        arrays = [np.asarray(array) for array in inputs.values()]
        np.savez(Path(folder) / "inputs.npz", *arrays)
        task = {
            "model": os.fspath(Path(path).absolute()), "folder": folder, "names": list(inputs), "threads": threads,
            "target": target,
        }  # fmt: skip
        return Starts(*(_started(task) for _ in range(2)))


def _started(task: Mapping[str, Any]) -> Start:
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "LOWER86_CACHE_DIR": f"{task['folder']}/objects",
    }  # fmt: skip
    command = [sys.executable, "-c", _SCRIPT, json.dumps({**task, "began": time.monotonic()})]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS, errors="replace"
        )
        found = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as problem:
        raise _failed(str(problem) or type(problem).__name__) from problem
    if found is not None and "problem" in found:
        raise _failed(found["problem"])
    if found is None:
        raise _failed((done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1])
    return Start(**found)


def _failed(reason: str) -> Lower86Error:
    return Lower86Error(
        f"a fresh process could not load and call the model: {reason[:300]}",
        where="start",
        fix="leave it out: --no-start; or look whether the model runs by lower86 run",
    )
