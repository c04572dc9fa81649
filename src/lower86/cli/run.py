"""`lower86 run`: one call of a saved model on arrays from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(model: Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")]) -> None:
    """Runs a saved model once on arrays from .npy files."""
    raise NotImplementedError
