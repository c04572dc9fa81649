"""Depthwise sums by the dot product: four neighbouring elements of a channel meet four taps at once.

The dot product adds up groups of four bytes, and in memory those are four channels. So the bytes of four neighbouring
columns are interleaved, for 64 channels at a time: then each group holds one channel's four columns, a *window*:

    window[k] = x[k][c] x[k+1][c] x[k+2][c] x[k+3][c]  for each channel c          acc[p] += dot4(window[k], weights)

A row of up to 4 taps is one dot product an output, with weights of 0 where it has fewer. Two neighbouring outputs of
stride 1 share their windows: the second one's weights are shifted by a tap (`runtime.packing.depthwise_windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every

from ..program.kernels import Depthwise
from ..program.sizes import evaluate
from .builder import I8, I32, LANES, Code, Value, Variable, vector
from .frame import Frame

_Place = tuple[int, int] | None
_BYTES = 4 * LANES
_QUARTERS = [LANES // 4 * (i % 4) + i // 4 for i in range(LANES)]
"""Words of 4 channels in the order from which interleaving makes vectors of 16 channels; its own inverse."""


def dot_sums(
    frame: Frame, kernel: Depthwise, index: Sequence[Value | int], channel: Value | int, lanes: int, count: int
) -> list[list[Variable]]:
    """For each of `count` outputs next to each other, the sums of `lanes` (up to 64) channels in vectors of 16."""
    code, left = frame.code, kernel.left
    vectors = -(-lanes // LANES)
    x: Value = code.at(frame.slots[left.slot], channel)
    for i, stride in zip(index, left.m, strict=True):
        x = code.at(x, code.mul(i, frame.size(stride)))
    *outer, taps = kernel.taps
    phases = 2 if kernel.shares_columns else 1
    windows = -(-(taps + phases - 1) // 4)
    rows = list(every(*(range(n) for n in outer))) if taps else []
    of_vector = len(rows) * phases * windows * _BYTES
    group = code.mul(code.div(channel, LANES), of_vector)
    weights = code.at(frame.slots[kernel.weight], group)
    starts = code.at(frame.slots[kernel.start], code.mul(channel, 4))
    first = [code.load(vector(I32), code.at(starts, _BYTES * v), align=64) for v in range(vectors)]
    sums = [[code.variable(first[v]) for v in range(vectors)] for _ in range(count)]
    for number, place in enumerate(rows):
        row: Value = x
        for i, stride in zip(place, left.k[:-1], strict=True):
            row = code.at(row, code.mul(i, frame.size(stride)))
        columns = _Columns(frame, kernel, row, lanes)
        for half, first_output, window in every(range(0, vectors, 2), range(0, count, phases), range(windows)):
            sharing = range(first_output, min(count, first_output + phases))
            last = len(sharing) - 1 + taps - 1
            if 4 * window > last:
                continue
            places = [(first_output, i) if i <= last else None for i in range(4 * window, 4 * window + 4)]
            for v in range(half, min(half + 2, vectors)):
                bytes_ = columns.window(places, v)
                for p in sharing:
                    at = v * of_vector + ((number * phases + p - first_output) * windows + window) * _BYTES
                    weight = code.load(vector(I8, _BYTES), code.at(weights, at), align=64)
                    sums[p][v].set(code.module.isa.dot(code, sums[p][v].get(), bytes_, weight))
    return sums


class _Columns:
    """Columns of one row of x: each is loaded once, each pair interleaved once. A column is an output and a tap."""

    def __init__(self, frame: Frame, kernel: Depthwise, row: Value, lanes: int) -> None:
        self._frame, self._kernel, self._row, self._lanes = frame, kernel, row, lanes
        self._done: dict[object, Value] = {}
        step, apart = kernel.left.k[-1], kernel.left.m[-1]
        whole = isinstance(step, int) and isinstance(apart, int) and step > 0 and apart % step == 0
        self._ratio = evaluate(apart, {}) // evaluate(step, {}) if whole else None

    def window(self, places: Sequence[_Place], v: int) -> Value:
        """Four columns of the channels of vector `v`; None is a column of zeros."""
        low, high = self._pair(places[0], places[1], v // 2), self._pair(places[2], places[3], v // 2)
        key = ("window", id(low), id(high), v)
        if key not in self._done:
            self._done[key] = _interleaved(self._frame.code, low, high, 2, v % 2)
        return self._done[key]

    def _pair(self, a: _Place, b: _Place, half: int) -> Value:
        key = ("pair", self._number(a), self._number(b), half)
        if key not in self._done:
            self._done[key] = _interleaved(self._frame.code, self._column(a), self._column(b), 1, half)
        return self._done[key]

    def _number(self, place: _Place) -> object:
        """The same for columns that are one."""
        return place if self._ratio is None or place is None else place[0] * self._ratio + place[1]

    def _column(self, place: _Place) -> Value:
        code, left = self._frame.code, self._kernel.left
        if place is None:
            return code.constant(vector(I8, _BYTES), 0)
        key = self._number(place)
        if key not in self._done:
            output, tap = place
            away = code.add(code.mul(self._frame.size(left.m[-1]), output), code.mul(self._frame.size(left.k[-1]), tap))
            x = code.load_first(I8, code.at(self._row, away), self._lanes, _BYTES)
            if self._kernel.kind == "s8s8":
                x = code.b.xor(x, code.constant(x.type, -128))  # s8 as u8, 128 higher; `start` takes the 128 back
            words = code.b.bitcast(x, vector(I32))
            self._done[key] = code.b.bitcast(code.shuffled(words, _QUARTERS), x.type)
        return self._done[key]


def _interleaved(code: Code, a: Value, b: Value, size: int, half: int) -> Value:
    """Elements of `size` bytes of a and b in turn, of the lower or upper half of every 16 bytes, as one instruction."""
    kind = vector(code.integer(8 * size), _BYTES // size)
    return code.b.bitcast(code.unpacked(code.b.bitcast(a, kind), code.b.bitcast(b, kind), 16 // size, half), a.type)
