"""Standard output is for results: what other code prints meanwhile, native code too, goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_OUT, _ERR = 1, 2


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """Within it, `print` and writes to file descriptor 1 reach standard error."""
    with contextlib.ExitStack() as after:
        try:
            _flush()
            kept = os.dup(_OUT)
            after.callback(os.close, kept)
            os.dup2(_ERR, _OUT)
            after.callback(os.dup2, kept, _OUT)
        except OSError:  # one of the two is closed: there is nothing to keep apart
            pass
        after.enter_context(contextlib.redirect_stdout(sys.stderr))
        after.callback(_flush)
        yield


def _flush() -> None:
    for stream in (sys.__stdout__, sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
