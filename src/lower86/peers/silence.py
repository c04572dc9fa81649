"""Libraries talk while they are imported, quantize and compile; what lower86 has to say is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from ..errors import Lower86Warning


@contextlib.contextmanager
def unheard() -> Iterator[list[warnings.WarningMessage]]:
    """Within it nothing is printed, warned of or logged below an error; gives lower86's own warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(record=True) as said,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", Lower86Warning)
            yield said
    finally:
        logging.disable(level)
