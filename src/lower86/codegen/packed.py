"""Stores of neighbouring vectors: bytes that were just quantized leave as one vector, not as four.

Four vectors of 32-bit steps become 64 bytes by two rounds of packing, which saturate as the quantization wants, and one
shuffle that undoes their order; by themselves each would need its own clamp, narrowing and store.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..program.body import Store
from .builder import LANES
from .operations import quantized_steps
from .pointwise import BodyEmitter


def store_neighbours(emitters: Sequence[BodyEmitter], columns: int | None) -> None:
    """Emits the stores of points whose lanes follow each other.

    `columns`: how many of all lanes count; None where only the points' own masks tell.
    """
    first = emitters[0]
    for store in first.body.stores:
        if columns is not None and len(emitters) > 1 and _packs(first, store):
            _store_packed(emitters, store, columns)
        else:
            for emitter in emitters:
                emitter.store(store)


def _packs(emitter: BodyEmitter, store: Store) -> bool:
    """Whether the store's bytes are quantized right there and lie next to each other."""
    lane = emitter.point.lane
    wide, node = emitter.code.module.isa.wide, emitter.body.nodes[store.node]
    adjacent = lane is not None and lane < len(store.strides) and store.strides[lane] == 1
    return wide and adjacent and node.op == "quantize_bounded"


def _store_packed(emitters: Sequence[BodyEmitter], store: Store, columns: int) -> None:
    first = emitters[0]
    code, node = first.code, first.body.nodes[store.node]
    steps = []
    for emitter in emitters:
        x, inverse, zero = (emitter.node(argument) for argument in node.args)
        steps.append(quantized_steps(code, code.splat(x), code.splat(inverse)))
    packed = code.module.isa.packed(code, steps, zero, node.dtype)
    pointer = first.place(store)
    at = 0
    for size in (4 * LANES, 2 * LANES, LANES, 8, 4, 2, 1):
        if columns - at >= size:
            code.store(code.part(packed, at, size), code.at(pointer, at))
            at += size
