"""What stands between an attention's two products: scaling, masks, casts, reshapes that keep rows and columns.

    softmax(where(m, product · c, -inf) + b)   ->   the product, c, and the masks

Masks become one: a bool one that is alone stays so, and one that leaves each query the keys up to its own place makes
the attention causal; others become what is added to the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float, same_shape, same_size, shape_of, source_of
from ..graph.edit import constant_of, insert
from ..normalize.precision import widened

_A = torch.ops.aten
_AS_GOOD_AS_INFINITE = -1e30
"""No score changes what is this far below the others."""


@dataclass(frozen=True)
class Term:
    """What masks scores: added to them if `condition` is None, else -inf or `fill` where the condition is `where`.

    `leading`: the scores' dims before the last two, there.
    """

    leading: tuple[Any, ...]
    added: Node | None = None
    factor: float = 1.0
    condition: Node | None = None
    fill: float = 0.0
    where: bool = False


def is_only_read(node: Node) -> bool:
    """Whether the node has one reader."""
    return len(node.users) == 1


def through_changes(node: Node) -> Node:
    """What single readers only reshape, rows and columns as they are, or round to another float."""
    while is_only_read(node) and _changes_no_element(node):
        node = source_of(node)
    return node


def _changes_no_element(node: Node) -> bool:
    if is_call(node, _A._to_copy.default):
        return is_float(node) and is_float(source_of(node))
    return is_call(node, _A.reshape.default) and _keeps_rows(node)


def _keeps_rows(reshape: Node) -> bool:
    before, after = shape_of(source_of(reshape)), shape_of(reshape)
    return len(before) >= 2 and len(after) >= 2 and same_shape(before[-2:], after[-2:])


def scores_of(module: GraphModule, node: Node) -> tuple[Node, float, tuple[Term, ...]] | None:
    """The product under a chain of scaling and masking, the scale of it all, and the masks."""
    factor, terms = 1.0, list[Term]()
    while not is_call(node, _A.matmul.default):
        if not is_float(node) or not is_only_read(node) or len(shape_of(node)) < 2:
            return None
        leading = shape_of(node)[:-2]
        if _changes_no_element(node):
            node = source_of(node)
            continue
        first, second = node.args[0], node.args[1] if len(node.args) > 1 else None
        if is_call(node, _A.mul.Tensor, _A.div.Tensor) and isinstance(second, int | float) and second:
            factor *= second if is_call(node, _A.mul.Tensor) else 1.0 / second
            inner = first
        elif is_call(node, _A.add.Tensor) and arguments(node)["alpha"] == 1:
            inner, added = (first, second) if _leads_to_product(first) else (second, first)
            if not isinstance(added, Node) or not is_float(added):
                return None
            terms.append(Term(leading, added=added, factor=factor))
        else:
            found = _where(module, node, leading)
            if found is None or factor <= 0:
                return None
            inner, term = found
            terms.append(term)
        if not isinstance(inner, Node) or not same_shape(shape_of(inner), shape_of(node)):
            return None
        node = inner
    return (node, factor, tuple(terms)) if is_only_read(node) else None


def _leads_to_product(node: Any) -> bool:
    """Whether a product is under the node, by first operands of what `scores_of` follows."""
    passed = (_A.reshape.default, _A._to_copy.default, _A.mul.Tensor, _A.div.Tensor, _A.add.Tensor)
    while is_call(node, *passed) and isinstance(node.args[0], Node):
        node = node.args[0]
    return is_call(node, _A.matmul.default)


def _where(module: GraphModule, node: Node, leading: tuple[Any, ...]) -> tuple[Any, Term] | None:
    if not is_call(node, _A.where.self, _A.where.ScalarOther, _A.where.ScalarSelf):
        return None
    condition, kept, left_out = node.args
    assert isinstance(condition, Node)
    for inner, other, where in ((kept, left_out, False), (left_out, kept, True)):
        fill = _number(module, other)
        if isinstance(inner, Node) and fill is not None and fill <= _AS_GOOD_AS_INFINITE:
            return inner, Term(leading, condition=condition, fill=fill, where=where)
    return None


def _number(module: GraphModule, value: Any) -> float | None:
    """A number, or the one element of a constant or of a filled tensor."""
    if isinstance(value, int | float):
        return float(value)
    if is_call(value, _A.full.default, _A.full_like.default, _A.scalar_tensor.default):
        given = arguments(value)
        filled = given.get("fill_value", given.get("s"))
        return float(filled) if isinstance(filled, int | float) else None
    constant = constant_of(module, value)
    return float(constant) if constant is not None and constant.numel() == 1 else None


def mask_of(
    module: GraphModule, node: Node, scores: Node, terms: tuple[Term, ...], leading: tuple[Any, ...]
) -> tuple[bool, Node | None]:
    """Whether attention is causal, and what else masks it, made before `node`."""
    triangles = [term for term in terms if _is_triangle(module, term, scores)]
    is_causal, terms = bool(triangles), tuple(term for term in terms if term not in triangles)

    def call(target: Any, *args: Any) -> Node:
        return insert(node, target, args, like=node)

    if len(terms) == 1 and terms[0].condition is not None and not terms[0].where and terms[0].fill == -math.inf:
        return is_causal, _as_batches(call, terms[0].condition, terms[0].leading, leading)
    total: Node | None = None
    for term in terms:
        if term.condition is not None:
            values = (term.fill, 0.0) if term.where else (0.0, term.fill)
            added = call(_A.where.Scalar, term.condition, *values)
        else:
            assert term.added is not None
            added = widened(node, term.added)
            added = added if term.factor == 1 else call(_A.mul.Tensor, added, term.factor)
        added = _as_batches(call, added, term.leading, leading)
        total = added if total is None else call(_A.add.Tensor, total, added)
    return is_causal, total


def _as_batches(call: Callable[..., Node], mask: Node, there: tuple[Any, ...], here: tuple[Any, ...]) -> Node:
    """A mask of scores whose leading dims are `there`, for scores whose leading dims are `here`."""
    if same_shape(there, here):
        return mask
    common = 0
    while common < min(len(there), len(here)) and same_size(there[-1 - common], here[-1 - common]):
        common += 1
    shape = shape_of(mask)
    shape = (*[1] * (len(there) + 2 - len(shape)), *shape)
    first = len(there) - common
    if all(isinstance(size, int) and size == 1 for size in shape[:first]):
        return call(_A.reshape.default, mask, list(shape[first:]))
    wide = call(_A.expand.default, mask, [*there[:first], *shape[first:]])
    return call(_A.reshape.default, wide, [*here[: len(here) - common], *shape[first:]])


def _is_triangle(module: GraphModule, term: Term, scores: Node) -> bool:
    """Whether the term leaves each query the keys up to its own place."""
    if term.condition is None or term.where or term.fill != -math.inf:
        return False
    if not same_shape(shape_of(term.condition)[-2:], shape_of(scores)[-2:]):
        return False
    constant = constant_of(module, term.condition)
    if constant is not None:
        return bool((constant == torch.ones(constant.shape[-2:], dtype=torch.bool).tril()).all())
    if not is_call(term.condition, _A.ge.Tensor):
        return False
    rows: Any
    rows, columns = term.condition.args[:2]
    upright = is_call(rows, _A.unsqueeze.default) or (is_call(rows, _A.reshape.default) and len(shape_of(rows)) == 2)
    if not upright or shape_of(rows)[-1] != 1:
        return False
    return _counts_up(source_of(rows)) and _counts_up(columns)


def _counts_up(node: Any) -> bool:
    if not is_call(node, _A.arange.default, _A.arange.start_step, _A.arange.start):
        return False
    given = arguments(node)
    return bool(given.get("start", 0) == 0 and given.get("step", 1) == 1)
