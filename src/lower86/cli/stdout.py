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


def open_all() -> None:
    """Gives the process its standard streams where it was started without: what is written to them is lost.

    Otherwise the next file that is opened would have their number, and errors would be printed as results.
    """
    for number, name in ((_OUT, "stdout"), (_ERR, "stderr")):
        if getattr(sys, name) is not None:
            continue
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for as long as the process is
        try:
            os.fstat(number)
        except OSError:
            os.dup2(stream.fileno(), number)
        setattr(sys, name, stream)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
