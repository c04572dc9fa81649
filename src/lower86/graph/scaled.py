"""Values that a quantizer has multiplied, channel by channel, and what reads them divides again.

norm(x) · f ─ │q dq│ ─ linear(W / f)       the value's node says f, so that it can be compared with the model's own
"""

from __future__ import annotations

import torch
from torch.fx import Node

_KEY = "lower86_factors"


def mark_scaled(node: Node, factors: torch.Tensor) -> None:
    """Notes that the node's value comes multiplied by `factors`, float32, which broadcast to it, for good."""
    before = factors_of(node)
    node.meta[_KEY] = factors if before is None else before * factors


def factors_of(node: Node) -> torch.Tensor | None:
    """What the node's value is multiplied by; None if by nothing."""
    found: torch.Tensor | None = node.meta.get(_KEY)
    return found
