"""Whether a Program is one: every reference leads somewhere, every kernel can be emitted, every step fits its kernel.

A program may come from anywhere. What passes here can be compiled; whether it may run is decided for each new set of
dims, on numbers, by `access`.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import limits
from .dtypes import BY_NUMPY, DTYPES
from .program import Program
from .sizes import product
from .validate_bodies import check_sizes, refuse, weight_of
from .validate_kernels import check_kernel
from .validate_steps import Steps, bodies_of

_RELATIONS = ("==", "!=", "<", "<=")
_PACKED = {
    "int8_panels": ("i8",), "bf16_panels": ("bf16",), "float_panels": ("f32", "f16", "bf16"),
    "depthwise": ("i8", "f32"),
}  # fmt: skip
"""The dtypes that each packing takes."""


def validate(program: Program, foreign: int = 0) -> None:
    """Raises ArtifactError, with where in the program it is wrong. `foreign`: how many foreign functions there are."""
    for counted, what, most in (
        (program.values, "values", limits.MOST_VALUES),
        (program.kernels, "kernels", limits.MOST_KERNELS),
        (program.steps, "steps", limits.MOST_STEPS),
        (program.dims, "dims", limits.MOST_DIMS),
        (program.checks, "checks", limits.MOST_STEPS),
    ):
        if len(counted) > most:
            raise refuse(what, f"{len(counted)} of them, more than {most}")
    known = _check_dims(program)
    _check_values(program, known)
    _check_constants(program)
    for number, check in enumerate(program.checks):
        where = f"checks[{number}]"
        if check.relation not in _RELATIONS:
            raise refuse(where, f"an unknown relation {check.relation!r}")
        check_sizes((check.left, check.right), known, where)
    check_sizes((program.arena_bytes,), known, "arena_bytes")
    seen: dict[str, int] = {}
    weight = 0
    for number, kernel in enumerate(program.kernels):
        check_kernel(kernel, f"kernels[{number}]")
        weight += sum(weight_of(body) for body in bodies_of(kernel))
        if weight > limits.MOST_PROGRAM_WEIGHT:
            raise refuse(f"kernels[{number}]", "more operations than a program may have")
        if seen.setdefault(repr(kernel), number) != number:  # not the kernel: 0.0 and -0.0 are equal, and not one
            raise refuse(f"kernels[{number}]", f"the same as kernel {seen[repr(kernel)]}")
    Steps(program, known, foreign).check()


def _check_dims(program: Program) -> Sequence[str]:
    known = [dim.name for dim in program.dims]
    if len(set(known)) != len(known):
        raise refuse("dims", "two dims of one name")
    for number, dim in enumerate(program.dims):
        where = f"dims[{number}]"
        if not 0 <= dim.input < len(program.inputs):
            raise refuse(where, f"there is no input {dim.input}")
        value = program.inputs[dim.input]
        if not 0 <= value < len(program.values) or not 0 <= dim.axis < len(program.values[value].shape):
            raise refuse(where, f"its input has no axis {dim.axis}")
        if not 1 <= dim.factor <= limits.MOST_NUMBER or abs(dim.offset) > limits.MOST_NUMBER:
            raise refuse(where, f"a size of {dim.factor} times it plus {dim.offset}")
        if dim.low < 0 or (dim.high is not None and dim.high < dim.low):
            raise refuse(where, f"no number is from {dim.low} to {dim.high}")
    return known


def _check_values(program: Program, known: Sequence[str]) -> None:
    for number, value in enumerate(program.values):
        where = f"values[{number}]"
        if value.dtype not in DTYPES:
            raise refuse(where, f"an unknown dtype {value.dtype!r}")
        if value.place not in ("input", "output", "state", "constant", "arena"):
            raise refuse(where, f"an unknown place {value.place!r}")
        if len(value.shape) > limits.MOST_RANK or any(isinstance(size, int) and size < 0 for size in value.shape):
            raise refuse(where, f"no tensor has the shape {value.shape}")
        check_sizes((*value.shape, value.offset), known, where)
    lists = {"input": program.inputs, "output": program.outputs, "state": [state.value for state in program.states]}
    for place, listed in lists.items():
        found = [number for number, value in enumerate(program.values) if value.place == place]
        if sorted(listed) != found:
            raise refuse(f"{place}s", f"every value that is an {place} stands here once, and no other")
        for position, number in enumerate(listed):
            if program.values[number].index != position:
                raise refuse(
                    f"values[{number}]", f"{place} number {program.values[number].index}, listed as {position}"
                )
    state_names = [state.name for state in program.states]
    if len(set(state_names)) != len(state_names):
        raise refuse("states", "two states of one name")


def _check_constants(program: Program) -> None:
    if len(program.packings) != len(program.constants):
        raise refuse("packings", f"{len(program.packings)} for {len(program.constants)} constants")
    for number, (constant, packing) in enumerate(zip(program.constants, program.packings, strict=True)):
        where = f"packings[{number}]"
        if constant.dtype not in BY_NUMPY:
            raise refuse(where, f"a constant of dtype {constant.dtype}")
        if packing.kind == "none":
            continue
        if packing.kind not in _PACKED:
            raise refuse(where, f"an unknown packing {packing.kind!r}")
        if constant.dtype not in [DTYPES[dtype].numpy for dtype in _PACKED[packing.kind]]:
            raise refuse(where, f"{packing.kind} of {constant.dtype}")
        if constant.ndim not in ((2,) if packing.kind == "depthwise" else (2, 4)):
            raise refuse(where, f"{packing.kind} of {constant.ndim} dims")
        if packing.kind == "depthwise":
            taps = constant.shape[1]
            if not 0 <= packing.run <= limits.MOST_TAPS or (taps % packing.run if packing.run else taps):
                raise refuse(where, f"rows of {packing.run} taps, of {taps}")
    for number, value in enumerate(program.values):
        if value.place != "constant":
            continue
        where = f"values[{number}]"
        if not 0 <= value.index < len(program.constants):
            raise refuse(where, f"there is no constant {value.index}")
        constant = program.constants[value.index]
        if constant.dtype != DTYPES[value.dtype].numpy or constant.size != product(value.shape):
            raise refuse(
                where, f"{value.dtype} {list(value.shape)}, its constant is {constant.dtype} {list(constant.shape)}"
            )
