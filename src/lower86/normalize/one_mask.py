"""All that masks an attention's scores as one mask, for scores that are batched as the attention is.

    where(m2, where(m1, product, -1e30) + b, -1e38)   ->   product + where(m2, where(m1, 0, -1e30) + b, -1e38)

From the inside out: what is added comes to the sum so far; what `where` fills in takes the place of the sum as it does
of the score, which it swallows. So keys that only several masks together hide weigh the same as each other. A bool mask
that is alone stays so, and one that leaves each query the keys up to its own place makes the attention causal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, same_shape, same_size, shape_of, source_of
from ..graph.edit import constant_of, insert
from .masked_scores import Added, Filled, MaskedScores, Scaled
from .precision import widened
from .shapes import quotient, size_at, sizes_of, times

_A = torch.ops.aten


@dataclass(frozen=True)
class Batches:
    """The attention's dims before the last two, and a tensor off which those that are no numbers can be read."""

    sizes: tuple[Any, ...]
    tensor: Node


def can_be_one_mask(found: MaskedScores, batches: Batches) -> bool:
    """Whether the sizes are known that masks need to have the attention's batches."""
    return all(
        sum(_place(size, term.mask, batches.tensor) is None for size in _split(term, batches)[0]) <= 1
        for term in found.masks
    )


def one_mask(module: GraphModule, node: Node, found: MaskedScores, batches: Batches) -> tuple[bool, Node | None]:
    """Whether the attention is causal, and what else masks it, by nodes before `node`: bool, or float32 to be added."""
    triangles = _causal_terms(module, found)
    terms = [term for i, term in enumerate(found.terms) if i not in triangles]
    masks = [term for term in terms if not isinstance(term, Scaled)]
    if len(masks) == 1 and isinstance(masks[0], Filled) and not masks[0].where and masks[0].fill == -math.inf:
        return bool(triangles), _batched(node, masks[0], batches)

    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    total: Node | None = None
    for term in terms:
        if isinstance(term, Scaled):
            total = None if total is None else call(_A.mul.Tensor, total, term.factor)
            continue
        mask = _batched(node, term, batches)
        if isinstance(term, Added):
            mask = widened(node, mask)
            total = mask if total is None else call(_A.add.Tensor, total, mask)
            continue
        if total is None:
            total = insert(node, _A.full.default, ([], 0.0), {"dtype": torch.float32}, like=node)
        if term.where:
            total = call(_A.where.ScalarSelf, mask, term.fill, total)
        else:
            total = call(_A.where.ScalarOther, mask, total, term.fill)
    return bool(triangles), total


def is_triangle(mask: Tensor) -> bool:
    """Whether a mask leaves each query the keys up to its own place, and no other."""
    return bool((mask == torch.ones(mask.shape[-2:], dtype=torch.bool).tril()).all())


def _causal_terms(module: GraphModule, found: MaskedScores) -> set[int]:
    """The places of those that only leave each query the keys up to its own place, and that nothing later replaces."""
    triangles = set[int]()
    for i, term in reversed(list(enumerate(found.terms))):
        if isinstance(term, Filled):
            if term.fill != -math.inf:
                break
            if not term.where and _compares_places(module, term.mask, found.product):
                triangles.add(i)
    return triangles


def _compares_places(module: GraphModule, condition: Node, scores: Node) -> bool:
    if not same_shape(shape_of(condition)[-2:], shape_of(scores)[-2:]):
        return False
    constant = constant_of(module, condition)
    if constant is not None:
        return is_triangle(constant)
    if not is_call(condition, _A.ge.Tensor):
        return False
    rows: Any
    rows, columns = condition.args[:2]
    upright = is_call(rows, _A.unsqueeze.default) or (is_call(rows, _A.reshape.default) and len(shape_of(rows)) == 2)
    if not upright or shape_of(rows)[-1] != 1:
        return False
    return _counts_up(source_of(rows)) and _counts_up(columns)


def _counts_up(node: Any) -> bool:
    if not is_call(node, _A.arange.default, _A.arange.start_step, _A.arange.start):
        return False
    given = arguments(node)
    return bool(given.get("start", 0) == 0 and given.get("step", 1) == 1)


def _split(term: Added | Filled, batches: Batches) -> tuple[tuple[Any, ...], int]:
    """The first dims of the scores at a mask that the attention batches otherwise, () if the mask has none of them.

    And how many dims follow before the last two, which the attention has, too.
    """
    there, here, alike = term.leading, batches.sizes, 0
    while alike < min(len(there), len(here)) and same_size(there[-1 - alike], here[-1 - alike]):
        alike += 1
    shape = shape_of(term.mask)
    own = shape[: max(0, len(shape) - 2 - alike)]
    return () if all(isinstance(size, int) and size == 1 for size in own) else there[: len(there) - alike], alike


def _batched(node: Node, term: Added | Filled, batches: Batches) -> Node:
    """The mask, two dims at least, for the attention's batches."""
    mask, rank = term.mask, len(shape_of(term.mask))
    others, alike = _split(term, batches)
    if not others and 2 <= rank <= alike + 2:
        return mask
    sizes = [*[1] * (alike + 2 - rank), *sizes_of(node, mask)][-2 - alike :]
    if others:
        here = [_size(node, size, batches.tensor) for size in batches.sizes[: len(batches.sizes) - alike]]
        there = [_size(node, size, mask, batches.tensor) for size in others]
        if None in there:
            rest = quotient(node, _product(node, here), _product(node, (size for size in there if size is not None)))
            there = [rest if size is None else size for size in there]
        mask = insert(node, _A.expand.default, (mask, [*there, *sizes]), like=node)
        sizes = [*here, *sizes]
    return insert(node, _A.reshape.default, (mask, sizes), like=node)


def _size(node: Node, size: Any, *tensors: Node) -> Any:
    """A size as an argument for a node before `node`, read off one of these tensors; None if they do not have it."""
    place = _place(size, *tensors)
    return size_at(node, *place) if isinstance(place, tuple) else place


def _place(size: Any, *tensors: Node) -> int | tuple[Node, int] | None:
    """The size, if it is a number, or a tensor and its dim of that size."""
    if isinstance(size, int):
        return size
    places = (
        (tensor, dim) for tensor in tensors for dim, other in enumerate(shape_of(tensor)) if same_size(size, other)
    )
    return next(places, None)


def _product(node: Node, sizes: Iterable[Any]) -> Any:
    total: Any = 1
    for size in sizes:
        total = size if isinstance(total, int) and total == 1 else times(node, total, size)
    return total
