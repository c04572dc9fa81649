"""Packages that only some of lower86 needs: imported when they are, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import Lower86Error


def needed(module: str, what: str, extra: str, *, where: str = "", package: str = "") -> Any:
    """The module of that name.

    Args:
        module: a package, or a module in one: `matplotlib.figure`.
        what: what needs it, as the subject of a sentence.
        extra: that of lower86's which brings it.
        where: for the error.
        package: how it is installed, where that is another name than it is imported by.

    Raises Lower86Error, which says what to install, where it is missing, or something that itself needs.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        top, lacking = module.partition(".")[0], (problem.name or module).partition(".")[0]
        name = (package or top) if lacking == top else lacking
        raise Lower86Error(
            f"{what} takes {name}, which is not installed",
            where=where,
            fix=f"pip install {name}, or pip install 'lower86[{extra}]'",
        ) from problem
