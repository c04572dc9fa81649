"""A few channels written next to each other: an image becomes channels last without a store an element.

Lanes run along the second last dim; the elements of the last one are computed one after another, and a vector of each
is shuffled into one block of memory:

    r0 r1 r2 …   g0 g1 g2 …   b0 b1 b2 …    ->    r0 g0 b0 r1 g1 b1 r2 …
"""

from __future__ import annotations

from ..program.dtypes import DTYPES
from ..program.kernels import Interleave
from .builder import Value
from .frame import Frame
from .pointwise import BodyEmitter, Point, lane_loop
from .storage import to_memory


def emit_interleave(frame: Frame, kernel: Interleave) -> None:
    """The whole kernel: `rows` rows of the second last dim."""
    code, (*outer, width, channels) = frame.code, kernel.sizes
    assert isinstance(channels, int)
    total: Value | int = 1
    for size in outer:
        total = code.mul(total, frame.size(size))
    first = code.mul(frame.unit, kernel.rows)
    lane = len(outer)
    with code.loop(first, code.minimum(total, code.add(first, kernel.rows))) as row:
        place = frame.split(row, tuple(outer))

        def at(i: Value, mask: Value | None) -> None:
            emitters = [BodyEmitter(frame, kernel.body, Point([*place, i, c], lane, mask)) for c in range(channels)]
            if mask is not None:
                for emitter in emitters:
                    emitter.stores()
                return
            for store in kernel.body.stores:
                dtype = kernel.body.nodes[store.node].dtype
                values = [to_memory(code, dtype, code.splat(emitter.node(store.node))) for emitter in emitters]
                offset: Value | int = 0
                for index, stride in zip([*place, i], store.strides, strict=False):
                    offset = code.add(offset, code.mul(index, frame.size(stride)))
                pointer = code.at(frame.slots[store.slot], code.mul(offset, DTYPES[dtype].size))
                code.store(code.interleaved(values), pointer)

        lane_loop(frame, frame.size(width), 0, at)
    code.ret()
