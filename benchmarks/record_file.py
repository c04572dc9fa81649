"""The file that a record is kept in: how it begins, whose it is, and what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from machine import identity
from plan import Part

from lower86.report.quiet import NOISE

FORMAT = 1


def begun(path: Path, fresh: bool, partial: bool) -> dict[str, Any]:
    """The record so far; a new one where there is none, or where it is of another machine.

    Raises SystemExit if what is there is no record, or if it is of another machine and only a part is to be measured.
    """
    here = identity()
    new: dict[str, Any] = {"format": FORMAT, "identity": here, "sections": {}}
    if fresh or not path.exists():
        return new
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before, sections = dict(record["identity"]), dict(record["sections"])
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise SystemExit(f"{path} is no record: {problem!r}; begin a new one with --fresh") from problem
    differing = [key for key in here if _compared(here, key) != _compared(before, key)]
    if not differing:
        return {**new, "sections": sections}
    lines = [f"  {key}: {before.get(key)} there, {here[key]} here" for key in differing]
    text = "\n".join([f"{path} is of another machine or other packages:", *lines])
    if partial:
        raise SystemExit(f"{text}\nbegin a new file with --fresh")
    print(f"{text}\na new record takes its place", flush=True)
    return new


def _compared(identity: dict[str, Any], key: str) -> Any:
    """Of the versions all but lower86's own: each part names its commit."""
    value = identity.get(key)
    return (
        {k: v for k, v in value.items() if k != "lower86"} if key == "versions" and isinstance(value, dict) else value
    )


def is_missing(record: dict[str, Any], part: Part, quick: bool) -> bool:
    """Whether there is no figure, or none that stands: a quick one, or one of a machine that was not quiet."""
    there = record["sections"].get(part.section, {}).get(part.name)
    return there is None or (not quick and (there["quick"] or there["others"] >= NOISE))
