"""The element types that programs hold, by short name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type: its name, bytes an element, kind ("float", "int", "uint", "bool") and NumPy equivalent.

    `computed`: the dtype that bodies compute in, where it is another. Such a dtype is one of memory only: what is
    loaded is widened at once, what is stored is rounded. NumPy has no bf16 and holds its bits.
    """

    name: str
    size: int
    kind: str
    numpy: np.dtype[np.generic]
    computed: str = ""


DTYPES = {
    d.name: d
    for d in (
        DType("f32", 4, "float", np.dtype("float32")),
        DType("f64", 8, "float", np.dtype("float64")),
        DType("bf16", 2, "float", np.dtype("uint16"), "f32"),
        DType("f16", 2, "float", np.dtype("float16"), "f32"),
        DType("i64", 8, "int", np.dtype("int64")),
        DType("i32", 4, "int", np.dtype("int32")),
        DType("i16", 2, "int", np.dtype("int16")),
        DType("i8", 1, "int", np.dtype("int8")),
        DType("u8", 1, "uint", np.dtype("uint8")),
        DType("bool", 1, "bool", np.dtype("bool")),
    )
}
BY_NUMPY = {d.numpy: d.name for d in DTYPES.values()}


def computed(dtype: str) -> str:
    """The dtype in which bodies compute with elements of `dtype`."""
    return DTYPES[dtype].computed or dtype


def is_narrow(dtype: str) -> bool:
    """Whether elements are rounded when they are stored: a float of 16 bits."""
    return computed(dtype) != dtype
