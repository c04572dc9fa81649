"""Contenders made, warmed up, and timed in turns; their results beside the float model's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import first_line
from .peer import Peer, Run, Unsuited, Work
from .silence import unheard

WARM_UP = 0.6
"""Seconds of calls before anything is timed."""


class Contender:
    """Calls with the next input each time; keeps each input's last result. `prepared` and `first` are seconds."""

    def __init__(self, run: Run, work: Work, prepared: float) -> None:
        self._run, self._turns = run, itertools.cycle(enumerate(work.inputs))
        self.results: dict[int, Any] = {}
        self.prepared = prepared
        start = time.perf_counter()
        self()  # some compile at their first call
        self.first = time.perf_counter() - start

    def __call__(self) -> None:
        number, inputs = next(self._turns)
        self.results[number] = self._run(inputs)


@dataclass(frozen=True)
class Field:
    """Who takes part, and why others do not, both by name; what lower86 warned of."""

    contenders: Mapping[str, Contender]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


def field_of(work: Work, peers: Mapping[str, Peer], threads: int, install: str) -> Field:
    """Makes every peer that can be made. What fails in a required one is raised; `install` says how to get packages."""
    made: dict[str, Contender] = {}
    left_out: dict[str, str] = {}
    notes: list[str] = []
    for name, peer in peers.items():
        if peer.missing:
            left_out[name] = f"{', '.join(peer.missing)} not installed ({install})"
            continue
        try:
            with unheard() as said:
                start = time.perf_counter()
                run = peer.make(work, threads)
                made[name] = Contender(run, work, time.perf_counter() - start)
            notes += [str(one.message) for one in said]
        except Unsuited as reason:
            left_out[name] = str(reason)
        except Exception as problem:  # of many libraries, each with errors of its own
            if peer.required:
                raise
            left_out[name] = f"it failed: {type(problem).__name__}: {first_line(problem)[:200]}"
    return Field(made, left_out, tuple(notes))


def warm_up(contenders: Mapping[str, Contender], seconds: float = WARM_UP) -> None:
    """Calls each for so long."""
    for call in contenders.values():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            call()


def cosines(work: Work, contenders: Mapping[str, Contender]) -> dict[str, float]:
    """Each one's least cosine similarity to the float model's results, over the inputs it was called with."""
    with torch.no_grad():
        expected = [_flat(work.model(*inputs)) for inputs in work.inputs]
    return {
        name: min(_cosine(_flat(result), expected[i]) for i, result in one.results.items())
        for name, one in contenders.items()
    }


def _cosine(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The least of all tensors; of two that are 0 it is 1."""
    pairs = zip(got, expected, strict=True)
    return min(torch.cosine_similarity(a, b, dim=0).item() if b.any() or a.any() else 1.0 for a, b in pairs)


def _flat(result: Any) -> list[Tensor]:
    leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
    return [leaf.double().flatten() for leaf in leaves]
