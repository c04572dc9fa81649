"""Whether steps fit the kernels that they run: their slots, dims and params, and what they may write to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from . import limits
from .body import Body
from .dtypes import DTYPES
from .kernels import ATTENTION_PARAMS, Attention, Contraction, Depthwise, Fill, Kernel, Pack
from .layout import layout_of
from .program import Foreign, Loop, Packing, Program, Step
from .signatures import COMPUTED
from .sizes import Size
from .validate_bodies import check_sizes, fits, fits_bounds, refuse

_PANELS = {
    "u8s8": "int8_panels", "s8s8": "int8_panels", "bf16": "bf16_panels", "f32": "float_panels", "f16": "float_panels",
}  # fmt: skip
ALIGNMENT = 64
"""Bytes, of the arena and of every constant."""
_LARGEST = float(np.finfo(np.float32).max)


class Steps:
    """Checks steps against the kernels they run."""

    def __init__(self, program: Program, known: Sequence[str], foreign: int) -> None:
        self._program, self._known, self._foreign = program, known, foreign
        self._layouts = [layout_of(kernel) for kernel in program.kernels]
        self._writes = [written_slots(kernel) for kernel in program.kernels]
        self._params = [_params_of(kernel, f"kernels[{i}]") for i, kernel in enumerate(program.kernels)]
        self._bounds = [bounding_params(kernel) for kernel in program.kernels]
        self._count = 0

    def check(self) -> None:
        """Raises ArtifactError for a step that does not fit."""
        for number, step in enumerate(self._program.steps):
            where = f"steps[{number}]"
            if isinstance(step, Step):
                self._step(step, where)
            elif isinstance(step, Loop):
                self._loop(step, where)
            else:
                self._call(step, where)

    def _call(self, step: Foreign, where: str) -> None:
        if not 0 <= step.function < self._foreign:
            raise refuse(where, "a call back into PyTorch, which there is not")
        values = range(len(self._program.values))
        if not all(number in values for number in (*step.inputs, *step.outputs)):
            raise refuse(where, "a call on values that there are not")

    def _loop(self, step: Loop, where: str) -> None:
        check_sizes((step.count,), self._known, f"{where}.count")
        if len(step.advances) != len(step.steps):
            raise refuse(where, "a loop has advances for each of its steps")
        for number, (inner, advances) in enumerate(zip(step.steps, step.advances, strict=True)):
            at = f"{where}.steps[{number}]"
            self._step(inner, at, advances)

    def _step(self, step: Step, where: str, advances: Sequence[Size] = ()) -> None:
        program = self._program
        self._count += 1
        if self._count > limits.MOST_STEPS:
            raise refuse(where, f"more than {limits.MOST_STEPS} steps")
        if not 0 <= step.kernel < len(program.kernels):
            raise refuse(where, f"there is no kernel {step.kernel}")
        kernel, layout = program.kernels[step.kernel], self._layouts[step.kernel]
        if len(step.slots) != layout.slots or (advances and len(advances) != layout.slots):
            raise refuse(where, f"{len(step.slots)} slots, its kernel has {layout.slots}")
        if len(step.dims) > limits.MOST_DIMS or not {*layout.dims} <= {f"d{i}" for i in range(len(step.dims))}:
            raise refuse(where, f"its kernel has the dims {', '.join(layout.dims)}")
        check_sizes((*step.dims, *advances), self._known, where)
        for slot, (number, offset) in enumerate(step.slots):
            if not 0 <= number < len(program.values):
                raise refuse(where, f"there is no value {number}")
            place = program.values[number].place
            if slot in self._writes[step.kernel] and place in ("input", "constant"):
                raise refuse(where, f"writes to an {place}")
            check_sizes((offset,), self._known, where)
        self._check_aligned(kernel, step, where, advances)
        wanted, bounds = self._params[step.kernel], self._bounds[step.kernel]
        if len(step.params) != layout.params:
            raise refuse(where, f"{len(step.params)} params, its kernel has {layout.params}")
        for number, (dtype, given) in enumerate(step.params):
            if dtype not in COMPUTED or wanted.get(number, dtype) != dtype or not fits_param(given, dtype):
                raise refuse(where, f"param {number} is {given!r} of {dtype!r}")
            for narrow in bounds.get(number, ()):
                if not fits_bounds(given, narrow):
                    raise refuse(where, f"param {number} is {given!r}, a bound of {narrow}")

    def _check_aligned(self, kernel: Kernel, step: Step, where: str, advances: Sequence[Size]) -> None:
        """What vectors are loaded from as aligned ones is a constant, packed as the kernel reads it, or in the arena.

        Where in the arena, the numbers of a call tell.
        """
        for slot, packing in aligned_slots(kernel).items():
            number, offset = step.slots[slot]
            value = self._program.values[number]
            if value.place == "arena":
                continue
            far = (offset, *([advances[slot]] if advances else []))
            if value.place != "constant" or not all(isinstance(b, int) and b % ALIGNMENT == 0 for b in far):
                raise refuse(where, f"slot {slot} is no constant at a multiple of {ALIGNMENT} bytes")
            if packing is not None and self._program.packings[value.index] != packing:
                raise refuse(where, f"slot {slot} is packed as {self._program.packings[value.index]}, not {packing}")


def aligned_slots(kernel: Kernel) -> Mapping[int, Packing | None]:
    """The slots that have to begin at a multiple of `ALIGNMENT` bytes, and how constants are packed there."""
    wanted: dict[int, Packing | None] = {}
    if isinstance(kernel, Contraction):
        if not kernel.is_float:
            wanted[kernel.start] = None
        if kernel.right.packed:
            wanted[kernel.right.slot] = Packing(_PANELS[kernel.kind])
    elif isinstance(kernel, Depthwise):
        if not kernel.is_float:
            wanted[kernel.start] = None
        wanted[kernel.weight] = Packing("depthwise", kernel.taps[-1], kernel.shares_columns)
    elif isinstance(kernel, Pack):
        wanted.update(dict.fromkeys((1, 2)))
    return wanted


def bodies_of(kernel: Kernel) -> list[Body]:
    """The kernel's bodies: what it stores, and an attention's mask."""
    if isinstance(kernel, (Fill, Pack)):
        return []
    return [kernel.body, kernel.mask] if isinstance(kernel, Attention) and kernel.mask else [kernel.body]


def written_slots(kernel: Kernel) -> set[int]:
    """The slots that a kernel writes to."""
    if isinstance(kernel, Fill):
        return {kernel.slot}
    if isinstance(kernel, Pack):
        return {1, 2} if kernel.rows is None else {1, 2, 4}
    return {store.slot for store in kernel.body.stores}


def _params_of(kernel: Kernel, where: str) -> Mapping[int, str]:
    """The dtype of each param that the kernel reads."""
    found: dict[int, str] = {}
    if isinstance(kernel, Attention):
        dtypes = (
            ["f32" if name.endswith("scale") else "i32" for name in ATTENTION_PARAMS] if kernel.integers else ["f32"]
        )
        found.update(enumerate(dtypes))
    if isinstance(kernel, Pack):
        found.update({0: "i32", 1: "i32"})
    if isinstance(kernel, Fill):
        found[0] = DTYPES[kernel.dtype].computed or kernel.dtype
    for body in bodies_of(kernel):
        for node in body.nodes:
            if node.op == "param" and found.setdefault(node.number, node.dtype) != node.dtype:
                raise refuse(where, f"param {node.number} as {found[node.number]} and as {node.dtype}")
    return found


def bounding_params(kernel: Kernel) -> Mapping[int, frozenset[str]]:
    """The params between which quantizations clamp, and the dtypes that they convert to then."""
    found: dict[int, frozenset[str]] = {}
    for body in bodies_of(kernel):
        for node in body.nodes:
            for argument in node.args[3:] if node.op == "quantize" else ():
                bound = body.nodes[argument]
                if bound.op == "param":
                    found[bound.number] = found.get(bound.number, frozenset()) | {node.dtype}
    return found


def fits_param(number: object, dtype: str) -> bool:
    """`fits`, for params, which have 0 and 1 for bools, and no float32 beyond the largest but infinity."""
    if dtype == "bool":
        return type(number) is int and number in (0, 1)
    if dtype == "f32" and isinstance(number, (int, float)) and math.isfinite(number) and abs(number) > _LARGEST:
        return False
    return fits(number, dtype)
