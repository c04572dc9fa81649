"""torchao's own lowering of the PT2E-quantized graph to x86: oneDNN's int8 operators, called one by one."""

from __future__ import annotations

from ..frontend import torchao
from .peer import Run, Work, run_of


def torchao_lowering(work: Work, threads: int) -> Run:
    """The function of the same name as lower86's."""
    return run_of(torchao.lowered_by_torchao(work.quantized, work.inputs[0]))
