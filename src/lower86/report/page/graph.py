"""Where the steps of a program stand in a picture of it: layers from top to bottom, laid out by fast-sugiyama."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .facts import Facts

WIDTH, HEIGHT = 176, 40
"""Of a step's box."""
_ACROSS, _DOWN, _TRACK, _MARGIN = 200, 72, 0.18, 24
"""Between boxes' middles; the part of a box's width that an edge takes which passes by; around all."""
_LETTERS = 26
"""That a line of small text in a box has room for."""
HEATS = 5
"""Shades of time."""


@dataclass(frozen=True)
class Box:
    """A step, an input or an output: `kind` of the first is "step" and `number` its own; `heat` from 0 to HEATS - 1."""

    kind: str
    number: int
    x: float
    y: float
    title: str
    text: str
    precision: str = ""
    heat: int = 0


@dataclass(frozen=True)
class Path:
    """An edge as an SVG path, and the steps at its ends; None for an input or output."""

    d: str
    source: int | None
    target: int | None


@dataclass(frozen=True)
class Picture:
    """Boxes, with x and y of their middles, and what connects them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    paths: tuple[Path, ...]


def picture_of(facts: Facts) -> Picture | None:
    """The picture; None where fast-sugiyama is not installed."""
    try:
        from_edges: Any = importlib.import_module("fast_sugiyama").from_edges
    except ModuleNotFoundError:
        return None
    boxes, edges = _graph(facts)
    beside = _beside(boxes, edges)
    places, tracks, width = _placed(from_edges, len(boxes), [*edges, *beside])
    tracks = [track for track in tracks if (track.source, track.target) not in beside]
    most = max((step.seconds for step in facts.steps), default=0.0)
    made = []
    for (kind, number), (x, y) in zip(boxes, places, strict=True):
        if kind != "step":
            one = (facts.inputs if kind == "input" else facts.outputs)[number]
            made.append(
                Box(kind, number, x, y, _short(one.name, 24), f"{one.dtype} [{', '.join(one.shape)}]"[:_LETTERS])
            )
            continue
        step = facts.steps[number]
        heat = min(HEATS - 1, int(HEATS * math.sqrt(step.seconds / most))) if most else 0
        time = f"{step.seconds * 1e6:.1f} µs · "
        text = time + _short(step.module or step.nodes[0], _LETTERS - len(time))
        made.append(Box(kind, number, x, y, f"{number} {_short(step.kind, 24)}", text, step.precision, heat))
    height = max((y for _, y in places), default=0.0) + HEIGHT / 2 + _MARGIN
    step_at = [number if kind == "step" else None for kind, number in boxes]
    paths = tuple(Path(_path(track.points), step_at[track.source], step_at[track.target]) for track in tracks)
    return Picture(width, height, tuple(made), paths)


def _graph(facts: Facts) -> tuple[list[tuple[str, int]], list[tuple[int, int]]]:
    """All boxes, and edges between positions in that list."""
    used = {edge.source for edge in facts.edges}
    taken = [number for number in range(len(facts.inputs)) if -1 - number in used]
    made = [number for number, one in enumerate(facts.outputs) if one.dtype]
    boxes = [("input", number) for number in taken]
    at = {-1 - number: position for position, number in enumerate(taken)}
    at |= {step.number: len(boxes) + step.number for step in facts.steps}
    boxes += [("step", step.number) for step in facts.steps]
    first = len(boxes)
    boxes += [("output", number) for number in made]
    edges = []
    for edge in facts.edges:
        edges.append((at[edge.source], first - 1 - edge.target if edge.target < 0 else at[edge.target]))
    return boxes, edges


def _beside(boxes: Sequence[tuple[str, int]], edges: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Edges not to be drawn: from the step before to each that reads nothing, such as one that fills a padding.

    Without them those would stand outside, each further out than the last one, and pull the picture aside.
    """
    read = {target for _, target in edges}
    return {
        (at - 1, at)
        for at, (kind, _) in enumerate(boxes)
        if kind == "step" and at not in read and at and boxes[at - 1][0] == "step"
    }


Place = tuple[float, float]


@dataclass(frozen=True)
class _Track:
    """The way of an edge between two boxes, by position."""

    source: int
    target: int
    points: list[Place]


def _placed(from_edges: Any, count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[Place], list[_Track], float]:
    """The middle of each box, the points of each edge, and how wide all is; unconnected parts stand side by side."""
    connected = sorted({node for edge in edges for node in edge})
    # What the layout adds to pass edges by other boxes gets numbers from this count on.
    number, known = {node: i for i, node in enumerate(connected)}, len(connected)
    pairs = [(number[source], number[target]) for source, target in edges]
    layouts = from_edges(pairs, vertex_spacing=1, dummy_vertices=True, dummy_size=_TRACK) if pairs else []
    places: dict[int, Place] = {}
    tracks: list[_Track] = []
    left = float(_MARGIN)
    for positions, _, _, chained in layouts:
        begin, low, top = left, min(x for _, (x, _) in positions), max(y for _, (_, y) in positions)
        local = {
            node: (begin + WIDTH / 2 + (x - low) * _ACROSS, _MARGIN + HEIGHT / 2 + (top - y) * _DOWN)
            for node, (x, y) in positions
        }
        left = max(x for x, _ in local.values()) + WIDTH / 2 + _MARGIN
        places |= {connected[node]: place for node, place in local.items() if node < known}
        tracks += _tracks(local, chained, connected)
    for node in sorted(set(range(count)) - set(connected)):
        places[node] = (left + WIDTH / 2, _MARGIN + HEIGHT / 2)
        left += _ACROSS
    return [places[node] for node in range(count)], tracks, left


def _tracks(local: dict[int, Place], chained: Sequence[tuple[int, int]], connected: Sequence[int]) -> list[_Track]:
    """The points of each edge: of the boxes at its ends, and of what the layout has put between them."""
    known = len(connected)
    after = {source: target for source, target in chained if source >= known}
    found = []
    for source, target in chained:
        if source >= known:
            continue
        nodes = [source, target]
        while nodes[-1] >= known:
            nodes.append(after[nodes[-1]])
        (x, y), *between, (to_x, to_y) = (local[node] for node in nodes)
        # Beside the boxes that it passes, an edge is straight.
        passes = [(at, level + half) for at, level in between for half in (-HEIGHT / 2, HEIGHT / 2)]
        points = [(x, y + HEIGHT / 2), *passes, (to_x, to_y - HEIGHT / 2)]
        found.append(_Track(connected[source], connected[nodes[-1]], points))
    return found


def _path(points: Sequence[Place]) -> str:
    """A smooth path; straight pieces that go on straight are one."""
    kept = [points[0]]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        if not before[0] == here[0] == after[0]:
            kept.append(here)
    kept.append(points[-1])
    path = f"M{kept[0][0]:.0f} {kept[0][1]:.0f}"
    for (x, y), (to_x, to_y) in pairwise(kept):
        middle = (y + to_y) / 2
        path += f"V{to_y:.0f}" if x == to_x else f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    return path


def _short(text: str, most: int) -> str:
    """The end of a dotted name tells more than its beginning."""
    return text if len(text) <= most else "…" + text[1 - most :]
