"""`lower86 inspect`: what a saved model takes and gives, and what is in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(model: Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")]) -> None:
    """Describes a saved model without running it."""
    raise NotImplementedError
