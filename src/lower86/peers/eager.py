"""PyTorch as it is: the float model, operator by operator."""

from __future__ import annotations

from .peer import Run, Work, run_of


def eager(work: Work, threads: int) -> Run:
    """What all results are compared with, too."""
    return run_of(work.model)
