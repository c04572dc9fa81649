"""One number in many places: the halo around a value."""

from __future__ import annotations

from contextlib import ExitStack

from ..program.dtypes import DTYPES, computed
from ..program.kernels import Band, Fill
from .builder import Value
from .frame import Frame
from .operations import OPERATIONS
from .pointwise import lane_loop
from .storage import to_memory


def emit_fill(frame: Frame, kernel: Fill) -> None:
    """The whole kernel: band after band, row after row."""
    code = frame.code
    with code.when(code.less(0, frame.size(kernel.elements))):
        for band in kernel.bands:
            _fill(frame, kernel, band)
    code.ret()


def _fill(frame: Frame, kernel: Fill, band: Band) -> None:
    code, size = frame.code, DTYPES[kernel.dtype].size
    number = OPERATIONS["cast"](code, computed(kernel.dtype), kernel.dtype, frame.param(0, computed(kernel.dtype)))
    every = code.splat(to_memory(code, kernel.dtype, number))
    *outer, length = band.shape
    with ExitStack() as stack:
        start: Value = code.at(frame.slots[kernel.slot], code.mul(frame.size(band.offset), size))
        for extent, stride in zip(outer, band.strides, strict=True):
            index = stack.enter_context(code.loop(0, frame.size(extent)))
            start = code.at(start, code.mul(index, code.mul(frame.size(stride), size)))

        def write(i: Value, mask: Value | None) -> None:
            code.masked_store(every, code.at(start, code.mul(i, size)), mask)

        lane_loop(frame, frame.size(length), 0, write)
