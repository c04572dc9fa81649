"""Keeps off the terminal what other libraries say while they import, export and copy graphs."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import torch  # noqa: F401  # first: importing it sets the levels of its loggers anew

from ..errors import Lower86Warning

_TWICE = "torch._guards"
"""Logs, as an error and in forty lines, what it raises as well."""
_TALKATIVE = (
    "torchao", _TWICE, "torch.utils._pytree", "torch.export", "torch.fx.experimental.symbolic_shapes", "transformers",
)  # fmt: skip


class _Filtered:
    """A stream that leaves out the graph that torch.export prints when it fails half way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._dropped = stream, False

    def write(self, text: str) -> int:
        graph = text.lstrip().startswith(("class GraphModule(", "def forward(self, arg0_1"))
        end_of_dropped, self._dropped = self._dropped and text == "\n", graph
        return len(text) if self._dropped or end_of_dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
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
            logger.setLevel(logging.CRITICAL if logger.name == _TWICE else logging.ERROR)
        filtered: Any = _Filtered(sys.stderr)
        try:
            with contextlib.redirect_stderr(filtered):
                yield said
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
