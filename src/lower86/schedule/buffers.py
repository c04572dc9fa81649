"""Where values lie: one arena, in which a value's place is free again after the last step that uses it."""

from __future__ import annotations

import dataclasses

from ..program.program import Foreign, Loop, Step, Value
from ..program.sizes import Size
from .plan import Plan

_ALIGNMENT = 64


def _uses(step: Step | Loop | Foreign) -> set[int]:
    """The values that a step touches; those of a loop are all in use at once, as one time's are the next one's too."""
    if isinstance(step, Foreign):
        return {*step.inputs, *step.outputs}
    return {value for one in (step.steps if isinstance(step, Loop) else [step]) for value, _ in one.slots}


def place_values(plan: Plan) -> Size:
    """Gives every arena value its offset; returns the arena's size in bytes.

    A freed place serves the next value of its size, or, where sizes are numbers, one that needs no more. Places lie
    one after another, so offsets are sums of sizes and hold for dynamic shapes too.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, step in enumerate(plan.steps):
        for value in _uses(step):
            first.setdefault(value, number)
            last[value] = number
    places: list[Size] = []
    free: list[int] = []
    where: dict[int, int] = {}
    for number in range(len(plan.steps)):
        for value in sorted(v for v, n in first.items() if n == number and plan.values[v].place == "arena"):
            size = _aligned(plan.bytes_of(value))
            fitting = [p for p in free if _fits(places[p], size)]
            if fitting:
                where[value] = min(fitting, key=lambda p: _order(places[p]))
                free.remove(where[value])
            else:
                where[value] = len(places)
                places.append(size)
        for value in sorted(v for v, n in last.items() if n == number and v in where):
            free.append(where[value])
    offsets: list[Size] = []
    total: Size = 0
    for size in places:
        offsets.append(total)
        total = total + size
    for value, place in where.items():
        plan.values[value] = _placed(plan.values[value], offsets[place])
    return total


def _placed(value: Value, offset: Size) -> Value:
    return dataclasses.replace(value, offset=offset)


def _aligned(size: Size) -> Size:
    return (size + (_ALIGNMENT - 1)) // _ALIGNMENT * _ALIGNMENT


def _fits(place: Size, size: Size) -> bool:
    if isinstance(place, int) and isinstance(size, int):
        return place >= size
    return place == size


def _order(place: Size) -> int:
    return place if isinstance(place, int) else 0
