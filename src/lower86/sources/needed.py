"""Packages that only some files need: imported when they are, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import Lower86Error


def needed(package: str, what: str, install: str = "") -> Any:
    """The module of that name. Raises Lower86Error, which says what to install, where there is none.

    `what` is what needs it, as the subject of a sentence; `install` the distribution, where it has another name.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as problem:
        if problem.name is None or not package.startswith(problem.name):
            raise
        name = install or package.partition(".")[0]
        raise Lower86Error(
            f"{what} takes {name}, which is not installed", fix=f"pip install {name}, or pip install 'lower86[cli]'"
        ) from problem
