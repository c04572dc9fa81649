"""The option `--json FILE` of every benchmark program, and how such a file is written: whole or not at all."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from lower86.whole_file import write_whole


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json FILE`, which is a path or None afterwards."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the figures to")


def write_json(path: Path | None, figures: Any) -> None:
    """Writes the figures, if there is a path; a file that is there is replaced when all of the new one is written.

    Numbers that JSON lacks, such as the cosine of a result that is not a number, are null.
    """
    if path is None:
        return
    text = json.dumps(_finite(figures), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
