"""Sizes, strides and offsets that may depend on named dims: integer polynomials with floor division.

A size is a plain `int` wherever it is known, a `SizeExpr` where it is not; arithmetic between the two folds back to
`int` as soon as it can, so that code for fixed and for dynamic shapes is the same code. Two expressions are equal
exactly when their canonical forms are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

Size = Union[int, "SizeExpr"]


@dataclass(frozen=True)
class FloorDiv:
    """`numerator // denominator`, kept as an atom where it does not divide out."""

    numerator: Size
    denominator: Size


Atom = str | FloorDiv
Monomial = tuple[Atom, ...]


@dataclass(frozen=True)
class SizeExpr:
    """A sum of integer multiples of products of atoms; always holds at least one non-constant term."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Size) -> Size:
        return canonical([*self.terms, *_terms(other)])

    def __sub__(self, other: Size) -> Size:
        return self + (other * -1)

    def __rsub__(self, other: int) -> Size:
        return (self * -1) + other

    def __mul__(self, other: Size) -> Size:
        return canonical([((*m, *n), a * b) for m, a in self.terms for n, b in _terms(other)])

    def __floordiv__(self, other: Size) -> Size:
        if other == 1:
            return self
        if self == other:
            return 1
        if isinstance(other, int) and all(c % other == 0 for _, c in self.terms):
            return canonical([(m, c // other) for m, c in self.terms])
        quotient = _divide_monomial(self, other)
        return dim_atom(FloorDiv(self, other)) if quotient is None else quotient

    def __rfloordiv__(self, other: int) -> Size:
        return dim_atom(FloorDiv(other, self)) if other else 0

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        def atom(a: Atom) -> str:
            return a if isinstance(a, str) else f"(({a.numerator}) // ({a.denominator}))"

        def term(monomial: Monomial, c: int) -> str:
            factors = [atom(a) for a in monomial]
            return "*".join([*([str(c)] if c != 1 or not factors else []), *factors])

        return " + ".join(term(m, c) for m, c in self.terms)


def dim_atom(atom: Atom) -> SizeExpr:
    """The size that is one atom: a dim's name or a floor division."""
    return SizeExpr((((atom,), 1),))


def _terms(size: Size) -> Iterable[tuple[Monomial, int]]:
    return size.terms if isinstance(size, SizeExpr) else [((), size)]


def canonical(terms: Iterable[tuple[Monomial, int]]) -> Size:
    """The sum of the terms, each a product and what it is multiplied by, in the one form that it has."""
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        key = tuple(sorted(monomial, key=repr))
        total[key] = total.get(key, 0) + coefficient
    left = tuple(sorted(((m, c) for m, c in total.items() if c), key=lambda t: repr(t[0])))
    if not left:
        return 0
    if len(left) == 1 and left[0][0] == ():
        return left[0][1]
    return SizeExpr(left)


def _divide_monomial(size: SizeExpr, by: Size) -> Size | None:
    """`size / by` when `by` is a single term that divides every term of `size`, else None."""
    divisors = list(_terms(by))
    if len(divisors) != 1 or divisors[0][1] == 0:
        return None
    monomial, coefficient = divisors[0]
    quotient: list[tuple[Monomial, int]] = []
    for m, c in size.terms:
        left = list(m)
        for atom in monomial:
            if atom not in left:
                return None
            left.remove(atom)
        if c % coefficient:
            return None
        quotient.append((tuple(left), c // coefficient))
    return canonical(quotient)


def common_factors_gone(a: Size, b: Size) -> tuple[Size, Size]:
    """Both sizes divided by what divides every term of both; as they are if one of them is 0."""
    if a == 0 or b == 0:
        return a, b
    terms = [*_terms(a), *_terms(b)]
    shared = Counter(terms[0][0])
    for monomial, _ in terms:
        shared &= Counter(monomial)
    factor = canonical([(tuple(shared.elements()), math.gcd(*(coefficient for _, coefficient in terms)))])
    return a // factor, b // factor


def product(sizes: Iterable[Size]) -> Size:
    """The product of all sizes; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def ceil_div(size: Size, by: Size) -> Size:
    """`size / by`, rounded up."""
    return (size + (by - 1)) // by


def contiguous_strides(shape: Iterable[Size]) -> tuple[Size, ...]:
    """Row-major strides in elements."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(tuple(shape)):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def evaluate(size: Size, dims: Mapping[str, int]) -> int:
    """The number that `size` is when every dim has the given value."""
    if isinstance(size, int):
        return size

    def atom(a: Atom) -> int:
        return dims[a] if isinstance(a, str) else evaluate(a.numerator, dims) // evaluate(a.denominator, dims)

    total = 0
    for monomial, coefficient in size.terms:
        for a in monomial:
            coefficient *= atom(a)
        total += coefficient
    return total


def is_nonnegative(size: Size) -> bool:
    """Whether `size` is surely at least 0, whatever its dims are."""
    if isinstance(size, int):
        return size >= 0

    def atom(a: Atom) -> bool:
        return isinstance(a, str) or (is_nonnegative(a.numerator) and is_nonnegative(a.denominator))

    return all(coefficient > 0 and all(map(atom, monomial)) for monomial, coefficient in size.terms)


def names(size: Size) -> list[str]:
    """The dims that `size` depends on, in order of appearance."""
    found: dict[str, None] = {}
    for monomial, _ in _terms(size):
        for a in monomial:
            inner = [a] if isinstance(a, str) else [*names(a.numerator), *names(a.denominator)]
            found.update(dict.fromkeys(inner))
    return list(found)


def rename(size: Size, to: Mapping[str, str]) -> Size:
    """`size` with its dims renamed; dims that `to` lacks keep their names."""
    if isinstance(size, int):
        return size

    def atom(a: Atom) -> Atom:
        if isinstance(a, str):
            return to.get(a, a)
        return FloorDiv(rename(a.numerator, to), rename(a.denominator, to))

    return canonical([(tuple(atom(a) for a in m), c) for m, c in size.terms])


def to_json(size: Size) -> Any:
    """An int, or a list of `[coefficient, [atoms]]` terms; an atom is a name or `[numerator, denominator]`."""
    if isinstance(size, int):
        return size
    return [
        [c, [a if isinstance(a, str) else [to_json(a.numerator), to_json(a.denominator)] for a in m]]
        for m, c in size.terms
    ]


def size_parts(size: Size) -> int:
    """Terms and factors, those of floor divisions included."""
    count = 0
    for monomial, _ in _terms(size):
        count += 1 + len(monomial)
        for a in monomial:
            if not isinstance(a, str):
                count += size_parts(a.numerator) + size_parts(a.denominator)
    return count
