"""What export found to hold between the sizes of a dynamic model, as checks that every call makes.

Following a branch on sizes, or slicing one input by the size of another, export notes what it relied on. A program
for other sizes would take the example's branch, or read beyond a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import GraphError
from ..graph.layout_guards import is_about_layout
from ..graph.source import line_of_guard
from ..program.program import Check
from ..program.sizes import SizeExpr, names
from .symbols import from_expression

_RELATIONS = {
    "Equality": ("==", False), "Unequality": ("!=", False),
    "StrictLessThan": ("<", False), "LessThan": ("<=", False),
    "StrictGreaterThan": ("<", True), "GreaterThan": ("<=", True),
}  # fmt: skip
"""sympy's relations: ours, and whether the sides change places."""


def checks_of(sizes: Iterable[Any], dims: set[str]) -> tuple[Check, ...]:
    """The conditions on `dims` that the symbolic ones among `sizes` come with.

    Raises GraphError for a condition that sizes cannot express.
    """
    environments = {id(size.node.shape_env): size.node.shape_env for size in sizes if not isinstance(size, int)}
    found: dict[Check, None] = {}
    for environment in environments.values():
        strides = _strides(environment)
        for guard in environment.guards:
            for condition in _parts(guard.expr.xreplace(environment.replacements)):
                if strides & condition.free_symbols:
                    continue  # no value depends on how an input lies in memory
                check = _check(condition.replace(_is_stride, _size_of_stride), dims)
                if check is not None and not is_about_layout(guard.sloc, check):
                    found.setdefault(replace(check, reason=line_of_guard(guard)))
    return tuple(found)


def _strides(environment: Any) -> set[Any]:
    """Symbols of inputs' strides that follow from no sizes: those of an example that was a part of another tensor."""
    return {
        symbol
        for symbol, sources in environment.var_to_sources.items()
        if any(getattr(getattr(source, "prop", None), "name", "") == "STRIDE" for source in sources)
    }


def _parts(condition: Any) -> Iterator[Any]:
    if type(condition).__name__ == "Or":
        condition = _of_reshape(condition)
    if type(condition).__name__ == "And":
        for part in condition.args:
            yield from _parts(part)
    else:
        yield condition


def _of_reshape(condition: Any) -> Any:
    """What a reshape to -1 asks, `total == known or total % known == 0`: the second, which follows from the first."""
    rest = [part for part in condition.args if type(part).__name__ != "Equality" or _is_multiple(part)]
    if len(rest) != 1:
        return condition
    last = rest[0].args if type(rest[0]).__name__ == "And" else rest
    divided = {part.args[0].args for part in last if _is_multiple(part)}
    return rest[0] if all(part is rest[0] or part.args in divided for part in condition.args) else condition


def _is_multiple(condition: Any) -> bool:
    """a % b == 0"""
    names = [type(part).__name__ for part in (condition, *condition.args[:1])]
    return names[0] == "Equality" and names[-1] in ("Mod", "PythonMod") and condition.args[1] == 0


def _check(condition: Any, dims: set[str]) -> Check | None:
    if condition.is_Boolean and not condition.is_Relational and not condition.free_symbols:
        return None  # true, or there would be no graph
    relation = _RELATIONS.get(type(condition).__name__)
    if relation is None:
        raise _refusal(condition)
    try:
        left, right = (from_expression(side) for side in condition.args)
    except GraphError as problem:
        raise _refusal(condition) from problem
    symbol, swapped = relation
    if swapped:
        left, right = right, left
    if isinstance(left, int) and isinstance(right, int):
        return None
    if any(isinstance(size, SizeExpr) and not set(names(size)) <= dims for size in (left, right)):
        raise _refusal(condition)
    return Check(left, symbol, right)


def _is_stride(expression: Any) -> bool:
    """Max(1, size): a stride is at least 1."""
    return type(expression).__name__ == "Max" and len(expression.args) == 2 and 1 in expression.args


def _size_of_stride(expression: Any) -> Any:
    return next(part for part in expression.args if part != 1)


def _refusal(condition: Any) -> GraphError:
    return GraphError(
        f"the model relies on {condition}, which a program cannot check",
        where="the sizes of its inputs",
        fix="leave these dims out of dynamic_shapes, or take the branch on sizes out of the model",
    )
