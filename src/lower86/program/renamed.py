"""Anything of a program with its dims renamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .program import Dim, Program
from .sizes import SizeExpr, rename


def renamed(part: Any, to: Mapping[str, str]) -> Any:
    """The same with other names for dims in every size that it holds; dims that `to` lacks keep theirs.

    Of a program the kernels stay as they are: their dims d0, d1, … are their own.
    """
    if isinstance(part, SizeExpr):
        return rename(part, to)
    if type(part) is tuple or isinstance(part, list):
        return (tuple if type(part) is tuple else list)(renamed(item, to) for item in part)
    if isinstance(part, dict):
        return {key: renamed(item, to) for key, item in part.items()}
    if isinstance(part, Dim):
        return dataclasses.replace(part, name=to.get(part.name, part.name))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        own = ("kernels", "constants") if isinstance(part, Program) else ()
        fields = {f.name: renamed(getattr(part, f.name), to) for f in dataclasses.fields(part) if f.name not in own}
        return dataclasses.replace(part, **fields)
    return part
