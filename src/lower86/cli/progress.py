"""What is being done, on stderr, for as long as it takes: only where somebody looks, and nobody wants JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def shown(as_json: bool) -> bool:
    """Whether progress is to be seen."""
    return not as_json and sys.stderr.isatty()


@contextmanager
def working(what: str, as_json: bool) -> Iterator[None]:
    """A line that says what is going on, with a spinner and gone in the end where rich is installed."""
    if not shown(as_json):
        yield
        return
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        print(f"{what} …", file=sys.stderr)
        yield
        return
    with Console(stderr=True).status(f"{what} …", refresh_per_second=4):
        yield
