"""Keeps off the terminal what other libraries say while they import, export and copy graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch  # noqa: F401  # first: importing it sets the levels of its loggers anew

from ..errors import Lower86Warning

_TALKATIVE = ("torchao", "torch.utils._pytree", "torch.export", "transformers")


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Within it, others' warnings and loggers are silent; lower86's own warnings are gathered in the list given."""
    said: list[str] = []
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Lower86Warning)

        def keep(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
            if issubclass(category, Lower86Warning):
                said.append(str(message))

        warnings.showwarning = keep
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield said
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
