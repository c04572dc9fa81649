"""What stands between an attention's product of queries and keys and its softmax: scaling, masks, reshapes, casts.

    softmax(where(m, product · c + b, -1e30))   ->   the product, and what happens to it: Scaled, Added, Filled

What `where` puts in a score's place must be so low that a score added to it is lost in rounding; `one_mask.py` makes
one mask of several on that ground. That no score comes near it (1e22 would change -1e30) is taken for granted, and that
nothing added later brings it back, unless it is known to. Reshapes keep rows and columns: windows may be batches, or a
dim of their own for as long as they have a mask each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float, same_shape, shape_of, source_of, tensor_of
from .bounds import bounds
from .filled import number_in

_A = torch.ops.aten
_AS_GOOD_AS_INFINITE = -1e30
"""What is as low as this stays as it is when a score is added to it."""
_PRODUCTS = (_A.mul.Tensor, _A.mul.Scalar)
_QUOTIENTS = (_A.div.Tensor, _A.div.Scalar)
_SELECTIONS = (_A.where.self, _A.where.ScalarOther, _A.where.ScalarSelf)


@dataclass(frozen=True)
class Scaled:
    """Scores are multiplied by a number that is not 0."""

    factor: float


@dataclass(frozen=True)
class Added:
    """A tensor is added to scores whose dims before the last two are `leading`."""

    mask: Node
    leading: tuple[Any, ...]


@dataclass(frozen=True)
class Filled:
    """Where the mask is True, or, if not `where`, is False, `fill` stands in place of a score; as above, `leading`."""

    mask: Node
    leading: tuple[Any, ...]
    fill: float
    where: bool


Term = Scaled | Added | Filled


@dataclass(frozen=True)
class MaskedScores:
    """A product, what happens to it, in that order, and whether that is rounded to a narrower float in between."""

    product: Node
    terms: tuple[Term, ...]
    is_rounded: bool

    @property
    def factor(self) -> float:
        """By what the product is multiplied in all."""
        return math.prod((term.factor for term in self.terms if isinstance(term, Scaled)), start=1.0)

    @property
    def masks(self) -> tuple[Added | Filled, ...]:
        """What is not scaling."""
        return tuple(term for term in self.terms if not isinstance(term, Scaled))


def is_only_read(node: Node) -> bool:
    """Whether the node has one reader."""
    return len(node.users) == 1


def through_changes(node: Node) -> Node:
    """What single readers only reshape, rows and columns as they are, or round to another float."""
    while is_only_read(node) and (_is_rounding(node) or _keeps_rows(node)):
        node = source_of(node)
    return node


def _is_rounding(node: Node) -> bool:
    return is_call(node, _A._to_copy.default) and is_float(node) and is_float(source_of(node))


def _keeps_rows(node: Node) -> bool:
    if not is_call(node, _A.reshape.default):
        return False
    before, after = shape_of(source_of(node)), shape_of(node)
    return len(before) >= 2 and len(after) >= 2 and same_shape(before[-2:], after[-2:])


def masked_scores_of(module: GraphModule, node: Node) -> MaskedScores | None:
    """The product that leads to `node`, a softmax's operand, and what happens to it; each has one reader."""
    terms, is_rounded = list[Term](), False
    while not is_call(node, _A.matmul.default):
        if not is_float(node) or not is_only_read(node) or len(shape_of(node)) < 2:
            return None
        inner: Any
        if _is_rounding(node) or _keeps_rows(node):
            is_rounded, inner = is_rounded or _is_rounding(node), source_of(node)
        else:
            inner, term = _step(module, node)
            if term is None or not isinstance(inner, Node) or not same_shape(shape_of(inner), shape_of(node)):
                return None
            terms.append(term)
        node = inner
    found = MaskedScores(node, tuple(reversed(terms)), is_rounded)
    return found if is_only_read(node) and _stays_low(module, found) else None


def without_scale(module: GraphModule, x: Any) -> tuple[Any, float]:
    """y and c of mul(y, c) or div(y, 1 / c) that has one reader."""
    if not is_call(x, *_PRODUCTS, *_QUOTIENTS) or not is_only_read(x) or not isinstance(x.args[0], Node):
        return x, 1.0
    number = number_in(module, x.args[1])
    if not number or not same_shape(shape_of(x.args[0]), shape_of(x)):
        return x, 1.0
    factor = 1.0 / number if is_call(x, *_QUOTIENTS) else number
    return (x.args[0], factor) if math.isfinite(factor) and factor else (x, 1.0)


def _step(module: GraphModule, node: Node) -> tuple[Any, Term | None]:
    """The scores before `node`, and what it does to them."""
    leading = shape_of(node)[:-2]
    if is_call(node, _A.add.Tensor) and arguments(node)["alpha"] == 1:
        first, second = node.args[:2]
        inner, added = (first, second) if _leads_to_product(first) else (second, first)
        return inner, Added(added, leading) if isinstance(added, Node) and is_float(added) else None
    if is_call(node, *_SELECTIONS):
        condition, kept, left_out = node.args
        assert isinstance(condition, Node)
        for inner, other, where in ((kept, left_out, False), (left_out, kept, True)):
            fill = number_in(module, other)
            if isinstance(inner, Node) and fill is not None and fill <= _AS_GOOD_AS_INFINITE:
                held = torch.tensor(fill, dtype=tensor_of(node).dtype).item()
                return inner, Filled(condition, leading, held, where)
    inner, factor = without_scale(module, node)
    return inner, None if inner is node else Scaled(factor)


def _leads_to_product(node: Any) -> bool:
    """Whether a product is under the node, through what `masked_scores_of` follows."""
    left = [node]
    followed = (_A.reshape.default, _A._to_copy.default, _A.add.Tensor, *_PRODUCTS, *_QUOTIENTS, *_SELECTIONS)
    while left:
        node = left.pop()
        if is_call(node, _A.matmul.default):
            return True
        if is_call(node, *followed) and is_only_read(node):
            left.extend(reversed(node.args))
    return False


def _stays_low(module: GraphModule, found: MaskedScores) -> bool:
    """Whether what is filled in is not known to come back, by a negative factor or what is added to it."""
    highest: float | None = None
    for term in found.terms:
        if isinstance(term, Filled):
            highest = term.fill if highest is None else max(highest, term.fill)
        elif highest is None:
            continue
        elif isinstance(term, Scaled):
            if term.factor < 0:
                return False
            highest *= term.factor
        else:
            added = bounds(module, term.mask)
            if added is not None and added[1] > -highest / 2:
                return False
    return True
