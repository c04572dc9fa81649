"""What the demo measures: likeness of embeddings, and retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
