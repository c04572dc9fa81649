"""How many of something, in words that agree with the number."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """`1 step`, `2 steps`: the number and `one`, or, where it is not 1, `several`, or `one` with an s."""
    return f"{count} {one if count == 1 else several or one + 's'}"
