"""JSON from a file that may be made up: bounded in size, nesting and count, no key twice, no number that is not one."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import numpy as np

from ..errors import ArtifactError

SAVE_AGAIN = "save the model again: this file is damaged, or was not written by lower86.save"
"""What to do about any file that makes no sense."""

MOST_DEPTH = 64
"""Of lists and objects in each other. A program's own nesting is about a dozen, and twice the depth of its sizes."""
MOST_CONTAINERS = 1 << 18
"""Lists and objects in a text: each takes some hundred bytes."""
MOST_ITEMS = 1 << 20


def parse(text: bytes, where: str) -> Any:
    """The value that a UTF-8 text stands for. Raises ArtifactError, which names `where`, for anything doubtful."""
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS or text.count(b",") > MOST_ITEMS:
        raise _refused("too many values", where)
    _check_depth(text, where)
    try:
        value = json.loads(
            text.decode(), object_pairs_hook=_no_key_twice, parse_constant=_no_number, parse_float=_finite
        )
        if b"\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as problem:
        raise _refused("half a character", where) from problem
    except UnicodeDecodeError as problem:
        raise _refused("bytes that are not UTF-8", where) from problem
    except ValueError as problem:  # of which JSONDecodeError is one
        raise _refused(str(problem), where) from problem


def _check_depth(text: bytes, where: str) -> None:
    """Before anything is parsed, because a parser goes as deep as the text; by whole arrays, because texts are long."""
    plain = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")  # so that every quote begins or ends a string
    characters = np.frombuffer(plain, np.uint8)
    outside = np.bitwise_xor.accumulate(characters == ord('"')) == 0
    brackets = characters[outside & np.isin(characters, np.frombuffer(b"[]{}", np.uint8))]
    opening = np.isin(brackets, np.frombuffer(b"[{", np.uint8))
    if len(brackets) and np.where(opening, 1, -1).cumsum().max() > MOST_DEPTH:
        raise _refused(f"values nested more than {MOST_DEPTH} deep", where)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"the literal {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}, which is too large")
    return value


def _refused(problem: str, where: str) -> ArtifactError:
    return ArtifactError(
        f"the JSON holds {problem}",
        where=where,
        fix=SAVE_AGAIN,
    )
