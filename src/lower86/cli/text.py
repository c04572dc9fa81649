"""Text for a terminal."""

from __future__ import annotations

from ..counted import counted
from ..errors import Lower86Error


def printable(text: str) -> str:
    """Without what a terminal would take for a command: names in a file may be anything."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def megabytes(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else counted(size, "byte")


def one_line(error: Lower86Error) -> str:
    """The error's parts in a line."""
    where = f" ({error.where})" if error.where else ""
    fix = f"; to do: {error.fix}" if error.fix else ""
    return " ".join(printable(f"{error.what}{where}{fix}").split())
