"""torch.compile's own backend on the PT2E-quantized graph, with constants frozen, as PyTorch's guide for x86 says."""

from __future__ import annotations

import torch
import torch._inductor.config

from .peer import Run, Work, run_of


def inductor(work: Work, threads: int) -> Run:
    """Compiled by a first call. It takes a C++ compiler: without one the call raises."""
    model = work.quantized
    torch.compiler.reset()
    run = run_of(torch.compile(model))
    with torch._inductor.config.patch(freezing=True):
        run(work.inputs[0])
    return run
