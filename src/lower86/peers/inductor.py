"""torch.compile's own backend on the PT2E-quantized graph, with constants frozen, as PyTorch's guide for x86 says.

Its settings are a private module. The public way, `torch.compile(options={"freezing": True})`, fails on such graphs in
torch 2.13. `tests/peers/test_inductor.py` tells when they move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch._inductor.config as settings

from .peer import Run, Work, run_of


def inductor(work: Work, threads: int) -> Run:
    """Compiled by a first call. It takes a C++ compiler: without one the call raises.

    Constants stay to be frozen after it returns, until `settings_kept` ends: whoever exports strictly meanwhile makes
    torch.compile forget, and what it compiles again at the next call has to be what it was.
    """
    torch.compiler.reset()
    settings.freezing = True
    run = run_of(torch.compile(work.quantized))
    run(work.inputs[0])
    return run


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards Inductor freezes constants as it did before."""
    before = settings.freezing
    try:
        yield
    finally:
        settings.freezing = before
