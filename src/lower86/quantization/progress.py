"""How far a long piece of work is: a bar with the time left, where rich is installed and somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Goes through a sequence and shows how far it is."""

    def __call__(self, items: Sequence[T], what: str) -> Iterator[T]: ...


def _silent(items: Sequence[T], what: str) -> Iterator[T]:
    yield from items


@contextmanager
def tracking(wanted: bool) -> Iterator[Track]:
    """A function that goes through sequences under a bar each: lines on stderr without rich, silent if unwanted."""
    if not wanted:
        yield _silent
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        yield _plain
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bars:

        def track(items: Sequence[T], what: str) -> Iterator[T]:
            yield from bars.track(items, description=what)

        yield track


def _plain(items: Sequence[T], what: str) -> Iterator[T]:
    print(f"{what}: {len(items)}", file=sys.stderr)
    yield from items
