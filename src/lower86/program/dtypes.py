"""The element types that programs hold, by short name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type: its name, bytes an element, kind ("float", "int", "uint", "bool") and NumPy equivalent."""

    name: str
    size: int
    kind: str
    numpy: np.dtype[np.generic]


DTYPES = {
    d.name: d
    for d in (
        DType("f32", 4, "float", np.dtype("float32")),
        DType("f64", 8, "float", np.dtype("float64")),
        DType("i64", 8, "int", np.dtype("int64")),
        DType("i32", 4, "int", np.dtype("int32")),
        DType("i16", 2, "int", np.dtype("int16")),
        DType("i8", 1, "int", np.dtype("int8")),
        DType("u8", 1, "uint", np.dtype("uint8")),
        DType("bool", 1, "bool", np.dtype("bool")),
    )
}
BY_NUMPY = {d.numpy: d.name for d in DTYPES.values()}
