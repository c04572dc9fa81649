"""What was measured, kept in a JSON file, so that an interrupted search goes on where it was.

    {"lower86 accuracy control": 1,
     "runs": {KEY: {"tried": [{"float": […], "dtype": …, "metric": …, "ratio": …}, …], …}}}

A key is a hash of all that the measurements depend on, so one file can serve many models and settings; the bound is no
part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..errors import Lower86Error, first_line
from ..graph.edit import tensor_at
from ..whole_file import write_whole

_VERSION = "lower86 accuracy control"


class Journal:
    """The file's part under one key; without a path, only in memory."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = Path(path) if path is not None else None
        self._runs: dict[str, Any] = {}
        self._run: dict[str, Any] = {}
        if self._path is None:
            return
        if self._path.is_dir() or not self._path.absolute().parent.is_dir():
            self._refuse("it is no place for a file", "give the path of a file in a folder that is there")
        if self._path.exists():
            self._runs = self._read()

    def open(self, key: str) -> None:
        """Goes on with what was measured under this key."""
        self._run = self._runs.setdefault(key, {"seconds": None, "tried": [], "numbers": {}})

    @property
    def seconds(self) -> float | None:
        """The seconds that a call of the int8 program took, the unit of all ratios."""
        found: float | None = self._run["seconds"]
        return found

    def tried(self, dtype: str) -> dict[frozenset[str], tuple[float, float]]:
        """By the names of the float layers, which ran in `dtype`: metric, and ratio to the int8 program's time."""
        these = [one for one in self._run["tried"] if not one["float"] or one["dtype"] == dtype]
        return {frozenset(one["float"]): (float(one["metric"]), float(one["ratio"])) for one in these}

    def numbers(self, what: str) -> dict[str, float]:
        """Numbers by name that were kept under this heading."""
        return {name: float(value) for name, value in self._run["numbers"].get(what, {}).items()}

    def keep_configuration(self, floats: Iterable[str], dtype: str, metric: float, ratio: float) -> None:
        """Writes down a configuration."""
        one = {"float": sorted(floats), "dtype": dtype, "metric": _plain(metric), "ratio": ratio}
        self._run["tried"].append(one)
        self._write()

    def keep_seconds(self, seconds: float) -> None:
        """Writes down the time of the int8 program."""
        self._run["seconds"] = seconds
        self._write()

    def keep_numbers(self, what: str, numbers: Mapping[str, float]) -> None:
        """Writes down numbers by name."""
        self._run["numbers"][what] = {name: _plain(value) for name, value in numbers.items()}
        self._write()

    def _read(self) -> dict[str, Any]:
        assert self._path is not None
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            self._refuse(f"it cannot be read: {first_line(problem)}", "delete it to begin anew, or give another path")
        if not (isinstance(found, dict) and found.get(_VERSION) == 1 and _are_runs(found.get("runs"))):
            self._refuse(
                "it is no file of accuracy control, or is damaged", "delete it to begin anew, or give another path"
            )
        runs: dict[str, Any] = found["runs"]
        return runs

    def _write(self) -> None:
        if self._path is None:
            return
        content = json.dumps({_VERSION: 1, "runs": self._runs}, indent=1).encode()
        try:
            write_whole(self._path, lambda file: file.write(content))
        except OSError as problem:
            self._refuse(f"it cannot be written: {first_line(problem)}", "give a path that can be written to")

    def _refuse(self, what: str, fix: str) -> None:
        raise Lower86Error(what, where=f"resume={str(self._path)!r}", fix=fix)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _are_runs(runs: object) -> bool:
    return isinstance(runs, dict) and all(isinstance(run, dict) and _is_run(run) for run in runs.values())


def _is_run(run: Mapping[str, Any]) -> bool:
    tried, numbers = run.get("tried"), run.get("numbers")
    if not (isinstance(run.get("seconds"), (float, type(None))) and isinstance(tried, list)):
        return False
    if not (isinstance(numbers, dict) and all(isinstance(one, dict) for one in numbers.values())):
        return False
    values = [value for one in numbers.values() for value in one.values()]
    for one in tried:
        if not (isinstance(one, dict) and isinstance(one.get("float"), list) and isinstance(one.get("dtype"), str)):
            return False
        values += [one.get("metric"), one.get("ratio")]
    return all(_is_number(value) for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) or value in ("inf", "-inf", "nan")


def fingerprint(graph: GraphModule, inputs: Sequence[Sequence[Any]]) -> str:
    """A hash of a graph with all its tensors, and of the flat inputs that calibrate it."""
    found = hashlib.sha256(graph.code.encode())
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            _add(found, tensor_at(graph, str(node.target)))
    for leaves in inputs:
        for leaf in leaves:
            _add(found, leaf)
    return found.hexdigest()


def _add(found: Any, value: object) -> None:
    if isinstance(value, Tensor):
        found.update(f"{value.dtype} {list(value.shape)}".encode())
        found.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    else:
        found.update(repr(value).encode())


def key_of(*parts: object) -> str:
    """A hash of texts and numbers."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
