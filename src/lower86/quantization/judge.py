"""How near a rounding graph's outputs are to the float model's, and steps that are kept only if that does not fall."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..frontend import torchao
from .account import Step
from .simulate import simulated
from .slots import standing_in
from .watch import run

_LOG = logging.getLogger("lower86")


class Judge:
    """Knows the float outputs of the held-out inputs."""

    def __init__(self, prepared: GraphModule, calls: Sequence[Sequence[Any]]) -> None:
        self._calls = calls
        observers = {name: nn.Identity() for name, module in prepared.named_modules() if torchao.is_observer(module)}
        with standing_in(prepared, observers):
            self._wanted = [_floats(run(prepared, leaves)) for leaves in calls]

    def sqnr(self, prepared: GraphModule) -> float:
        """Signal to quantization noise of all float outputs, in dB; each output counts by its own size.

        -inf where an output is no number any more.
        """
        powers: list[float] = []
        noises: list[float] = []
        with simulated(prepared):
            for leaves, wanted in zip(self._calls, self._wanted, strict=True):
                for i, (got, exact) in enumerate(zip(_floats(run(prepared, leaves)), wanted, strict=True)):
                    if i == len(powers):
                        powers.append(0.0)
                        noises.append(0.0)
                    finite = torch.isfinite(exact)
                    powers[i] += float(exact[finite].square().sum())
                    noises[i] += float((got - exact)[finite].square().sum())
        parts = [noise / power for noise, power in zip(noises, powers, strict=True) if power]
        share = sum(parts) / len(parts) if parts else 0.0
        if math.isnan(share):
            return -math.inf
        return -10 * math.log10(share) if share > 0 else math.inf

    def attempt(
        self, prepared: GraphModule, name: str, before: float, step: Callable[[GraphModule], str]
    ) -> tuple[GraphModule, Step]:
        """The graph with the step, if the outputs are no worse for it, or else as it was; and what came of it."""
        tried = torchao.copied(prepared)
        note = step(tried)
        after = self.sqnr(tried)
        result = Step(name, note, before, after, kept=after >= before)
        _LOG.info("quantize: %s", result)
        return (tried if result.kept else prepared), result


def _floats(results: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(results)
    return [leaf.to(torch.float64) for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
