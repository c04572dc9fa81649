"""When an entry of the scheduler's tables covers a node: conditions that the documentation can quote."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..program.dtypes import DTYPES, computed
from .symbols import DTYPE_NAMES


@dataclass(frozen=True)
class When:
    """A condition on a node, and how the documentation says it; "" for what PyTorch itself demands."""

    text: str
    holds: Callable[[Node], bool]

    def __and__(self, other: When) -> When:
        texts = [text for text in (self.text, other.text) if text]
        return When("; ".join(texts), lambda node: self.holds(node) and other.holds(node))


def kind(node: Node) -> str:
    """The kind of a node's dtype: "float", "int", "uint", "bool", or "" for one that programs do not hold."""
    value = node.meta.get("val")
    name = DTYPE_NAMES.get(value.dtype) if isinstance(value, torch.Tensor) else None
    return DTYPES[name].kind if name else ""


def in_float32(node: Node) -> bool:
    """Whether the node's tensor is of a dtype that is computed in float32: that, or a narrow float."""
    value = node.meta.get("val")
    name = DTYPE_NAMES.get(value.dtype) if isinstance(value, torch.Tensor) else None
    return name is not None and computed(name) == "f32"


def fits(number: object, dtype: str) -> bool:
    """Whether a number is one of the dtype's; what is no number is not asked."""
    if not isinstance(number, (int, float)) or DTYPES[dtype].kind in ("float", "bool"):
        return True
    bits = 8 * DTYPES[dtype].size
    low, high = (0, 2**bits - 1) if DTYPES[dtype].kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return math.isfinite(number) and low <= number <= high


def numbers_fit(node: Node) -> bool:
    """Whether the operands that are numbers are of the result's dtype."""
    dtype = DTYPE_NAMES[node.meta["val"].dtype]
    return all(fits(number, dtype) for number in arguments(node).values())


ANY = When("", lambda node: True)
FITTING = When("", numbers_fit)
FLOAT32 = When("result in float32", in_float32)
FLOATS = When("result in float32 or float64", lambda node: kind(node) == "float")
