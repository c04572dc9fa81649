"""Which layers to give back to float: an order, its shortest beginning that is enough, and what of it was needless.

Plain functions over names and a test `meets(names)`, which costs a compilation and a measurement each time it is asked
something new; so they ask little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Meets = Callable[[Sequence[str]], bool]


def order_of(
    noise: Mapping[str, float], effects: Mapping[str, float], saved: Mapping[str, float], total: float
) -> list[str]:
    """The layers in the order in which they give most accuracy for least time when they become float.

    noise: each layer's SQNR alone, dB. effects: what those that were measured cost the metric alone; it stands in
    for the noise there, and says what noise is worth in the others. saved: seconds that int8 saves in each layer;
    `total`, those of the whole program, say what counts as nothing.
    """
    power = {name: 10 ** (-sqnr / 10) for name, sqnr in noise.items()}
    known = sum(power[name] for name in effects)
    lost = sum(max(effect, 0.0) for effect in effects.values())
    worth = lost / known if known and lost else 1.0
    least = 1e-3 * total

    def value(name: str) -> float:
        # Of those that cost the metric nothing, and of those that cost it alike, the noisier first.
        guess = power[name] * worth
        gain = max(effects[name], 0.0) + 1e-3 * guess if name in effects else guess
        return gain / max(saved.get(name, 0.0), least)

    return sorted(noise, key=value, reverse=True)


def shortest(order: Sequence[str], meets: Meets, needed: int = 0) -> int:
    """The length of the shortest beginning that meets the bound, if the longer ones do, too; the whole is known to.

    Doubles the length until it is enough, then halves the gap; begins with the first `needed`, without which it is not.
    """
    low, high = max(needed - 1, 0), max(needed, 1)
    while high < len(order) and not meets(order[:high]):
        low, high = high, 2 * high
    high = min(high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(order[:middle]) else (middle, high)
    return high


def taken_back(kept: Sequence[str], meets: Meets, needed: int = 0) -> list[str]:
    """`kept`, which meets the bound, without those that it meets it without: the last ones first, many at a time.

    The first `needed` are not asked about.
    """
    tried = list(reversed(kept[needed:]))
    return _without(list(kept), tried, meets) if tried else list(kept)


def _without(kept: list[str], tried: list[str], meets: Meets) -> list[str]:
    rest = [name for name in kept if name not in tried]
    if meets(rest):
        return rest
    if len(tried) == 1:
        return kept
    half = (len(tried) + 1) // 2
    return _without(_without(kept, tried[:half], meets), tried[half:], meets)
