"""A program's data and constants as a file for `lower86.load`, whatever they are: everything else in it is right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lower86.artifact import seal
from lower86.artifact.format import CODES, METADATA
from lower86.program.dtypes import DTYPES

_CODE_OF = {dtype.numpy: CODES[name] for name, dtype in DTYPES.items() if name != "bf16"} | {np.dtype("u2"): "U16"}


def sealed(data: Any, constants: Sequence[Any]) -> bytes:
    """The file, its hash right. Inputs and outputs are called as the data has them, as far as that can be said."""
    arrays = [np.ascontiguousarray(constant) for constant in constants]
    header: dict[str, Any] = {METADATA: _metadata(data)}
    at = 0
    for number, array in enumerate(arrays):
        places = [at, at + array.nbytes]
        header[str(number)] = {"dtype": _CODE_OF[array.dtype], "shape": list(array.shape), "data_offsets": places}
        at += array.nbytes
    return seal(header, b"".join(array.tobytes() for array in arrays))


def _metadata(data: Any) -> Mapping[str, str]:
    inputs, outputs = (
        [[f"{name}{number}", dtype] for number, dtype in enumerate(_dtypes(data, field))]
        for name, field in (("x", "inputs"), ("y", "outputs"))
    )
    interface = {
        "names": [name for name, _ in inputs],
        "positional": {"tuple": [None] * len(inputs)},
        "named": {"dict": []},
        "result": {"tuple": [None] * len(outputs)},
        "inputs": inputs,
        "outputs": outputs,
    }
    parts = {
        "program": data, "interface": interface, "explanation": {"regions": 0, "operators": []}, "versions": {},
    }  # fmt: skip
    return {"format": "lower86", "version": "1", **{name: json.dumps(part) for name, part in parts.items()}}


def _dtypes(data: Any, field: str) -> list[str]:
    """Of the program's inputs or outputs; where the data are no program's, nobody asks for them."""
    try:
        return [str(data["values"][value]["Value"][0]) for value in data[field]]
    except (LookupError, TypeError):
        return []
