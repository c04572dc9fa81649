"""Pieces of Markdown: text that means only itself, relative links, tables."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\*_{}\[\]()#+!~^=:|`<>&-]|^\d+\.(?= )")
_CODE = re.compile(r"(`+[^`]+`+)")


def plain(text: str) -> str:
    """Text that Markdown leaves as it is, but for what stands between backticks: docstrings mark names so."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Character references are read by no extension of Markdown, as backslashes are by some."""
    return _SPECIAL.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found.group()), text)


def code(text: str) -> str:
    """Text as a code span, whatever backticks it holds."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def fenced(text: str, language: str = "text") -> str:
    """Text as a block of code."""
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def link(text: str, target: str, page: str) -> str:
    """A link from one page to another, with or without an anchor; both are paths of Markdown files in the site."""
    target, _, anchor = target.partition("#")
    path = "" if target == page else posixpath.relpath(target, posixpath.dirname(page) or ".")
    return f"[{text}]({path}{'#' + anchor if anchor else ''})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one after it."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def bullets(items: Iterable[str]) -> list[str]:
    """The lines of a list, and an empty one after it."""
    return [*(f"- {item}" for item in items), ""]
