"""What the demo measures: likeness of embeddings, retrieval, and latency of several callables in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CALLS_A_TURN = 3

Round = Mapping[str, float]


@dataclass(frozen=True)
class Likeness:
    """Mean and minimum cosine similarity of pairs of vectors."""

    mean: float
    minimum: float


def likeness(left: Tensor, right: Tensor) -> Likeness:
    """Of row i of one to row i of the other, both float32 [rows, width]."""
    cosines = torch.cosine_similarity(left.double(), right.double(), dim=-1)
    return Likeness(cosines.mean().item(), cosines.min().item())


def recall(queries: Tensor, targets: Tensor, k: int) -> float:
    """The share of queries whose own target (the row of the same index) is among the k most similar ones."""
    scores = queries @ targets.T
    better = (scores > scores.diagonal().unsqueeze(1)).sum(1)
    return (better < k).double().mean().item()


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Iterator[Round]:
    """Milliseconds a call of each contender, a round at a time; everyone has one turn a round, the order rotates."""
    names = list(contenders)
    for number in range(rounds):
        start = number % len(names)
        turns = names[start:] + names[:start]
        yield {name: _turn(contenders[name]) for name in turns}


def _turn(call: Callable[[], object]) -> float:
    # The first call of a turn finds the caches, and perhaps the cores, still full of the contender before.
    call()
    durations = []
    for _ in range(CALLS_A_TURN):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations) * 1e3


def medians(rounds: Sequence[Round]) -> dict[str, float]:
    """The median milliseconds of each contender."""
    return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}


def ratios(rounds: Sequence[Round], unit: str) -> dict[str, float]:
    """How many times longer than `unit` each contender takes: the median of the ratios within a round."""
    return {name: statistics.median(r[name] / r[unit] for r in rounds) for name in rounds[0]}
