"""What became of a quantized contraction, as data for reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from ..graph.source import line_of, module_of
from ..report.explanation import Record


@dataclass(frozen=True)
class Lowered:
    """A rule has rewritten the node."""

    record: Record


@dataclass(frozen=True)
class Refusal:
    """The node is a quantized contraction that stays float; `record.reason` says why."""

    record: Record


def record(node: Node, macs: int, reason: str = "") -> Record:
    """The record of `node` with its source metadata."""
    target: Any = node.target
    operator = str(getattr(target, "_schema", target)).split("(")[0]
    return Record(node.name, operator.removeprefix("aten::"), module_of(node), line_of(node), macs, reason)


def size_hint(size: Any) -> int:
    """A size as a number: a symbolic one at the example's value."""
    if isinstance(size, int):
        return size
    hint = size.node.hint
    return int(hint) if hint is not None else 1
