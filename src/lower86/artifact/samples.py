"""Made-up inputs for a loaded model, for who wants its speed and has no data at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..program.dtypes import DTYPES

if TYPE_CHECKING:
    from .loaded import LoadedProgram, TensorSpec

_SIZE = 16
"""Of a dim that varies, if nobody says otherwise and its range has it."""


def made_up_inputs(program: LoadedProgram, sizes: Mapping[str, int] | None = None) -> dict[str, npt.NDArray[Any]]:
    """An array for each tensor input, by name, always the same ones.

    Floats are of the standard normal distribution, integers 1 and bools True: token ids and masks of ones are in range
    for any model. `sizes` are those of dims that vary, by name; else 16, or the nearest size that the range has.
    Raises InputError for a size of no dim, or out of its range.
    """
    sizes = dict(sizes or {})
    specs = [spec for spec in program.inputs if spec.dtype]
    ranges = {name: bounds for spec in specs for name, bounds in spec.ranges.items()}
    for name, size in sizes.items():
        if name not in ranges:
            fix = f"the dims that vary are {', '.join(ranges)}" if ranges else "no dim of its inputs varies"
            raise InputError(f"no input has a dim {name!r}", where="sizes", fix=fix)
        low, high = ranges[name]
        if size < low or (high is not None and size > high):
            raise InputError(f"{name} = {size} is out of its range", where="sizes", fix=f"from {low} to {high}")
    chosen = {name: min(max(_SIZE, low), _SIZE if high is None else high) for name, (low, high) in ranges.items()}
    generator = np.random.default_rng(0)
    return {spec.name: _array(spec, chosen | sizes, generator) for spec in specs}


def _array(spec: TensorSpec, sizes: Mapping[str, int], generator: np.random.Generator) -> npt.NDArray[Any]:
    shape = [dim if isinstance(dim, int) else sizes.get(dim) for dim in spec.shape]
    known = [size for size in shape if size is not None]
    if len(known) != len(shape):
        raise InputError(
            f"the shape {list(spec.shape)} of {spec.name} follows from other inputs", fix="pass inputs of your own"
        )
    dtype = DTYPES[spec.dtype]
    if dtype.kind != "float":
        return np.ones(known, dtype.numpy)
    values = generator.standard_normal(known, np.float32)
    if spec.dtype == "bf16":
        bits: npt.NDArray[Any] = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits
    return values.astype(dtype.numpy)
