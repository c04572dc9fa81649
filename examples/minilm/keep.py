"""What the demo leaves behind: the lowered encoder as a file, and its report, opened where there is a display."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lower86


@dataclass(frozen=True)
class Kept:
    """Absolute paths of the program, which `lower86.load` reads, and of its report, one HTML page."""

    program: Path
    report: Path


def keep(lowered: Any, inputs: Sequence[Any], folder: Path, seconds: float = 1.0) -> Kept:
    """Writes both for a lowered encoder, timing calls on `inputs`. Raises Lower86Error or OSError."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder / "minilm.safetensors", folder / "minilm.html")
    size = lower86.save(lowered, kept.program)
    program = lower86.load(kept.program)  # what is measured is what the file holds
    lower86.write_report(
        program, kept.report, inputs=tuple(inputs), name="all-MiniLM-L6-v2", file_bytes=size, seconds=seconds
    )
    return kept


def has_display(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a browser would have a window: without one, text browsers would take the terminal."""
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(page: Path) -> None:
    """Asks for the default browser in a process of its own, which nobody waits for: whatever it does, the demo ends."""
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "webbrowser", page.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
