"""Files of arrays by name: .npz, .npy, .safetensors. Data alone, never a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, Lower86Error, first_line
from ..needed import needed
from .model import ModelSource

_WRITTEN = "write it by numpy.save or numpy.savez, without objects"


@contextmanager
def _readable(path: Path, fix: str) -> Iterator[None]:
    try:
        yield
    except Lower86Error:
        raise
    except Exception as problem:  # OSError, ValueError, EOFError, zipfile's, safetensors'
        said = getattr(problem, "strerror", None) or first_line(problem)
        if said.startswith("This file contains pickled"):  # NumPy goes on to say how to run it
            said = "it holds objects, as a pickle does, or something else than arrays"
        raise InputError(f"{path} cannot be read: {said}", where="data", fix=fix) from problem


def from_npz(path: Path, source: ModelSource) -> Mapping[str, torch.Tensor]:
    """The arrays of an .npz file. Raises InputError for what is none."""
    with _readable(path, _WRITTEN):
        found: Any = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise InputError(f"{path} holds one array without a name", where="data", fix="call it .npy")
        with found:
            return {name: _tensor(found[name]) for name in found.files}


def from_npy(path: Path, source: ModelSource) -> Mapping[str, torch.Tensor]:
    """The array of an .npy file, for a model with one input. Raises InputError for others."""
    names = [one.name for one in source.inputs]
    if len(names) != 1:
        raise InputError(
            f"{path} holds one array, the model takes {len(names)}: {', '.join(names)}",
            where="data",
            fix="write an .npz file with an array for each of these names",
        )
    with _readable(path, _WRITTEN):
        found: Any = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise InputError(f"{path} holds several arrays", where="data", fix="call it .npz")
        return {names[0]: _tensor(found)}


def from_safetensors(path: Path, source: ModelSource) -> Mapping[str, torch.Tensor]:
    """The tensors of a .safetensors file. Raises InputError for what is none."""
    loader = needed("safetensors.torch", "reading .safetensors", "cli")
    with _readable(path, "write it by safetensors"):
        found: Mapping[str, torch.Tensor] = loader.load_file(path)
        return found


def _tensor(array: Any) -> torch.Tensor:
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive of something else")  # NumPy gives the bytes of what is no .npy in it
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of dtype {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape))
