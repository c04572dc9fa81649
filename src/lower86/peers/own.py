"""lower86 itself: quantized by one of its recipes, lowered."""

from __future__ import annotations

from ..lowering import lower_pt2e_quantized_to_x86
from ..quantization.quantize import quantize
from ..quantization.recipe import Recipe
from .peer import Peer, Run, Work, run_of


def own(recipe: str | Recipe) -> Peer:
    """The contender that all others are compared with."""

    def make(work: Work, threads: int) -> Run:
        found = quantize(work.model, work.calibration, example_inputs=work.inputs[0], recipe=recipe, progress=False)
        return run_of(lower_pt2e_quantized_to_x86(found, work.inputs[0]))

    return Peer("lower86", make, required=True)
