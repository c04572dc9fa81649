"""Prints the coefficient tables of `lower86.codegen.mathematics`: run `python tools/fit_polynomials.py` and compare.

Each table is a minimax polynomial on an interval, found by Remez exchange on a grid of Chebyshev points in 40-digit
arithmetic (Cheney, Introduction to Approximation Theory, chapter 3), with an error weighted to be that of the *result*
relative to itself. Coefficients are rounded to float32 one at a time, lowest power first, and the rest is fitted again
around each, so that later coefficients take up the rounding of earlier ones. Everything is mpmath: the same digits on
every machine. Above each table stands the largest weighted error that is left, in units of 2^-24.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mpmath import cos, erfc, exp, expm1, log, log1p, mp, mpf, pi, sin, sqrt

mp.dps = 40
GRID = 300


LN4 = 2 * log(2)
BUMP, STEPS = mpf("5.4"), mpf("2.87")
MARGIN = mpf("1.0001")
"""Intervals are wider by this: the argument was rounded on its way there."""


def tanh_bump(t: mpf) -> mpf:
    """gelu_tanh(-t)."""
    return -t / (1 + exp(2 * sqrt(2 / pi) * (t + mpf("0.044715") * t**3)))


@dataclass(frozen=True)
class Fit:
    """`function(x)` ≈ Σ cᵢ·xⁱ for x in [low, high]; an error e there becomes e·weight(x) in the result."""

    name: str
    formula: str
    terms: int
    low: mpf
    high: mpf
    function: Callable[[mpf], mpf]
    weight: Callable[[mpf], mpf]


def piecewise(name: str, formula: str, function: Callable[[mpf], mpf]) -> tuple[Fit, ...]:
    """Σ cᵢ·tⁱ for x = (k + t)/2.87 with |t| <= 1/2, a polynomial for each k from 0 to 15; absolute."""
    half = mpf(1) / 2
    ends = [(mpf(0), half), *[(-half, half)] * 14, (-half, BUMP * STEPS - 15)]
    return tuple(
        Fit(f"{name} {k}", formula, 5, low * MARGIN, high, lambda t, k=k: function((k + t) / STEPS), lambda t: mpf(1))
        for k, (low, high) in enumerate(ends)
    )


PIECES = {
    "GELU_BUMP": piecewise("GELU_BUMP", "-x·Φ(-x)", lambda x: -x * erfc(x / sqrt(2)) / 2),
    "GELU_TANH_BUMP": piecewise("GELU_TANH_BUMP", "-x·(1 - tanh(√(2/π)·(x + 0.044715·x³)))/2", tanh_bump),
}
FITS = (
    Fit(
        "EXP",
        "exp(r) = 1 + r + r²·p(r) for |r| <= ln2",
        6,
        -log(2) * MARGIN,
        log(2) * MARGIN,
        lambda r: (expm1(r) - r) / r**2,
        lambda r: r**2 / exp(r),
    ),
    Fit(
        "WEIGHT",
        "exp(r) = 1 + r + r²·p(r) for |r| <= ln2/2",
        4,
        -log(2) / 2 * MARGIN,
        log(2) / 2 * MARGIN,
        lambda r: (expm1(r) - r) / r**2,
        lambda r: r**2 / exp(r),
    ),
    Fit(
        "ONE_MINUS_POWER",
        "1 - 4⁻ᶠ = f + f·p(f) for |f| <= 1/4",
        6,
        -MARGIN / 4,
        MARGIN / 4,
        lambda f: -expm1(-f * LN4) / f - 1,
        lambda f: f / -expm1(-f * LN4),
    ),
    Fit(
        "ERF",
        "erf(y) = 1 - 4⁻ᶻ with z = y + y·p(y), for 0 <= y <= 3.95; erf rounds to 1 from 3.92 on",
        8,
        mpf(0),
        mpf("3.95"),
        lambda y: -log(erfc(y)) / (y * LN4) - 1,
        # Evaluation rounds most near 0; the last factor makes the fit's own error smaller there.
        lambda y: LN4 * y * erfc(y) / (1 - erfc(y)) * (1 + 3 * erfc(y)),
    ),
    Fit(
        "TAIL",
        "Φ(c) = 4⁻ʷ with w = 1/2 + c·p(c), for -5.6 <= c <= 0, relative to 1/2; beyond, w goes on to grow",
        8,
        mpf("-5.6"),
        mpf(0),
        lambda c: (-log(erfc(-c / sqrt(2)) / 2) / LN4 - mpf(1) / 2) / c,
        lambda c: LN4 * c * erfc(-c / sqrt(2)),
    ),
    Fit(
        "LOG",
        "log(1 + f) = f + f²·p(f) for |f| <= 1/3",
        8,
        -mpf(1) / 3,
        mpf(1) / 3,
        lambda f: (log1p(f) - f) / f**2,
        lambda f: f**2 / abs(log1p(f)),
    ),
    Fit(
        "SIN",
        "sin(r) = r + r·q·p(q) with q = r², for |r| <= π/4",
        3,
        mpf(0),
        (MARGIN * pi / 4) ** 2,
        lambda q: (sin(sqrt(q)) / sqrt(q) - 1) / q,
        lambda q: q * sqrt(q) / sin(sqrt(q)),
    ),
    Fit(
        "COS",
        "cos(r) = 1 + q·p(q) with q = r², for |r| <= π/4",
        4,
        mpf(0),
        (MARGIN * pi / 4) ** 2,
        lambda q: (cos(sqrt(q)) - 1) / q,
        lambda q: q / cos(sqrt(q)),
    ),
)


def float32(x: mpf) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", float(x)))[0])


def shortest(x: float) -> str:
    """The shortest decimal that rounds to this float32."""
    return next(text for text in (f"{x:.{digits}g}" for digits in range(1, 10)) if float32(mpf(text)) == x)


def grid(fit: Fit) -> list[mpf]:
    """Chebyshev points of the interval: never an end, never the middle, where a removable 0/0 may sit."""
    middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    return [middle - half * cos(pi * (2 * i + 1) / (2 * GRID)) for i in range(GRID)]


def extremes(errors: Sequence[mpf], count: int) -> list[int]:
    """Places of `count` errors of alternating sign, the largest among them."""
    places = [0]
    for i, error in enumerate(errors):
        if error * errors[places[-1]] <= 0:
            places.append(i)
        elif abs(error) > abs(errors[places[-1]]):
            places[-1] = i
    while len(places) > count:
        sizes = [abs(errors[i]) for i in places]
        least = sizes.index(min(sizes))
        if len(places) == count + 1:
            places.pop(0 if sizes[0] < sizes[-1] else -1)
        elif least in (0, len(places) - 1):
            places.pop(least)
        else:  # its neighbours have one sign: only the larger stays
            places.pop(least)
            places.pop(least - 1 if sizes[least - 1] < sizes[least + 1] else least)
    return places


def remez(points: Sequence[mpf], targets: Sequence[mpf], weights: Sequence[mpf], terms: int) -> list[mpf]:
    """The coefficients whose largest weighted error over the points is as small as can be."""
    count = terms + 1
    chosen = [round(i * (len(points) - 1) / terms) for i in range(count)]
    for _ in range(50):
        rows = [[points[i] ** power for power in range(terms)] + [(-1) ** k / weights[i]] for k, i in enumerate(chosen)]
        *coefficients, level = mp.lu_solve(mp.matrix(rows), mp.matrix([targets[i] for i in chosen]))
        errors = [w * (mp.polyval(coefficients[::-1], x) - y) for x, y, w in zip(points, targets, weights, strict=True)]
        chosen = extremes(errors, count)
        if len(chosen) < count or max(abs(e) for e in errors) <= abs(level) * mpf("1.001"):
            break
    return list(coefficients)


def rounded(fit: Fit) -> tuple[list[float], mpf]:
    """The float32 coefficients, lowest power first, and the largest weighted error."""
    points = grid(fit)
    # What is left to fit after each coefficient, divided by x: error and weight are those of the result all the same.
    rest, weights = [fit.function(x) for x in points], [fit.weight(x) for x in points]
    done: list[float] = []
    for terms in range(fit.terms, 0, -1):
        done.append(float32(remez(points, rest, weights, terms)[0]))
        rest = [(y - mpf(done[-1])) / x for x, y in zip(points, rest, strict=True)]
        weights = [w * abs(x) for x, w in zip(points, weights, strict=True)]
    return done, max(abs(w * y) for w, y in zip(weights, rest, strict=True))


def tables() -> Iterator[str]:
    """The lines of all tables, and of the constants that go with them."""
    for fit in FITS:
        coefficients, error = rounded(fit)
        yield f"# {fit.formula}; error {float(f'{float(error * 2**24):.1g}'):g}"
        width = 8 if len(coefficients) <= 8 else 6
        rows = [", ".join(map(shortest, coefficients[i : i + width])) for i in range(0, len(coefficients), width)]
        yield from (
            [f"_{fit.name} = ({rows[0]})"]
            if len(rows) == 1
            else [f"_{fit.name} = (", *(f"    {row}," for row in rows), ")  # fmt: skip"]
        )
    for name, pieces in PIECES.items():
        fitted = [rounded(piece) for piece in pieces]
        error = max(error for _, error in fitted)
        left = float(f"{float(error * 2**24):.1g}")
        yield f"# {pieces[0].formula} for x = (k + t)/2.87 up to 5.4, |t| <= 1/2: cᵢ of every k; error {left:g}"
        yield f"_{name} = ("
        for power in zip(*(coefficients for coefficients, _ in fitted), strict=True):
            texts = list(map(shortest, power))
            rows = [", ".join(texts[i : i + 6]) for i in range(0, len(texts), 6)]
            yield f"    ({rows[0]},"
            yield from (f"     {row}," for row in rows[1:-1])
            yield f"     {rows[-1]}),"
        yield ")  # fmt: skip"
    yield "# each a number and what it lacks of the exact one"
    for name, value in (("LN2", log(2)), ("LOG2_E", 1 / log(2)), ("LOG4_E", 1 / LN4)):
        high = float32(value)
        yield f"_{name} = ({shortest(high)}, {shortest(float32(value - mpf(high)))})"
    yield f"_HALF_PI = ({float(pi / 2)}, {float(pi / 2 - mpf(float(pi / 2)))})"
    yield f"_TWO_OVER_PI = {float(2 / pi)}"


if __name__ == "__main__":
    print("\n".join(tables()))
