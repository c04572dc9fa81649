"""Callers' arrays: how their memory is found, and how results become of the same kind. PyTorch is never imported.

A kind is NumPy's, PyTorch's (whose tensors say themselves where they lie, bf16 included), or that of any other library
whose arrays speak DLPack; those that name their namespace (the array API standard) get its arrays back, others
NumPy's. What only has Python's buffer protocol is read as NumPy reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import InputError, first_line
from ..program.dtypes import DTYPES
from ..program.interface import Given

_TORCH_NAMES = {
    "f32": "float32", "f64": "float64", "bf16": "bfloat16", "f16": "float16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """Where an input lies, contiguous, and its shape; `owner` keeps the memory."""

    address: int
    shape: tuple[int, ...]
    owner: Any = None


class Kind(Protocol):
    """A kind of arrays."""

    def taken(self, leaf: Any, wanted: Given, where: str) -> Taken:
        """An input's memory, copied if it is not contiguous. Raises InputError if it is not what is wanted."""

    def empty(self, shape: Sequence[int], dtype: str) -> tuple[Any, int]:
        """Fresh memory for a result, and its address."""

    def given(self, result: Any) -> Any:
        """The result as the caller's own kind."""


def kind_of(leaf: Any) -> Kind:
    """The kind of an input."""
    if isinstance(leaf, np.ndarray):
        return _NUMPY
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(leaf, torch.Tensor):
        return _Torch(torch)
    namespace = getattr(leaf, "__array_namespace__", None)
    return _Numpy(namespace()) if namespace is not None and not isinstance(leaf, np.generic) else _NUMPY


def literal_taken(leaf: Any, wanted: Given, where: str) -> Taken:
    """An input that is no tensor: it has to be the value that the model was lowered with."""
    if type(leaf) is type(wanted.literal) and leaf == wanted.literal:
        return Taken(_NOTHING.ctypes.data, (0,))
    plain = leaf is None or type(leaf) in (bool, int, float, str)
    raise InputError(
        f"{wanted.name} is {repr(leaf) if plain else type(leaf).__name__}, the model was lowered with "
        f"{wanted.literal!r}",
        where=where,
        fix=f"pass {wanted.literal!r}, or lower the model again with the other value as its example",
    )


_NOTHING = np.zeros(1, np.uint8)


class _Numpy:
    """NumPy's arrays, and those of a `namespace` that exchanges memory with them."""

    def __init__(self, namespace: Any = None) -> None:
        self._namespace = namespace

    def taken(self, leaf: Any, wanted: Given, where: str) -> Taken:
        array = leaf if type(leaf) is np.ndarray else _as_numpy(leaf, wanted, where)
        dtype = DTYPES[wanted.dtype].numpy
        if array.dtype != dtype:
            raise _wrong_dtype(wanted, str(array.dtype), f"{wanted.name}.astype(np.{dtype.name})", where)
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = array.copy(order="C")
        return Taken(array.__array_interface__["data"][0], array.shape, array)

    def empty(self, shape: Sequence[int], dtype: str) -> tuple[Any, int]:
        array = np.empty(shape, DTYPES[dtype].numpy)
        return array, array.__array_interface__["data"][0]

    def given(self, result: Any) -> Any:
        return result if self._namespace is None else self._namespace.from_dlpack(result)


_NUMPY = _Numpy()


def _as_numpy(leaf: Any, wanted: Given, where: str) -> Any:
    """The memory of whatever is no ndarray by itself."""
    if isinstance(leaf, (list, tuple, dict, str, bool, int, float, type(None))):
        raise InputError(
            f"{wanted.name} is a {type(leaf).__name__}, not an array",
            where=where,
            fix=f"pass numpy.asarray({wanted.name}, numpy.{DTYPES[wanted.dtype].numpy.name}), nested as in the example",
        )
    try:
        if isinstance(leaf, (np.ndarray, np.generic)):
            return np.asarray(leaf)
        if hasattr(leaf, "__dlpack__"):
            return np.from_dlpack(leaf)
        return np.asarray(leaf) if hasattr(leaf, "__array_interface__") else np.asarray(memoryview(leaf))
    except (TypeError, ValueError, BufferError, RuntimeError, AttributeError) as problem:
        raise InputError(
            f"{wanted.name} is a {type(leaf).__name__} whose memory NumPy cannot read: {first_line(problem)}",
            where=where,
            fix="pass a NumPy array, a tensor in CPU memory, or anything with DLPack or the buffer protocol; bf16 as "
            "a torch.Tensor or as uint16 bits",
        ) from problem


class _Torch:
    """PyTorch's tensors, by their own methods: whoever passes one has imported PyTorch."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def taken(self, leaf: Any, wanted: Given, where: str) -> Taken:
        torch = self._torch
        if leaf.device.type != "cpu" or leaf.layout != torch.strided:
            raise InputError(
                f"{wanted.name} is a {str(leaf.layout).removeprefix('torch.')} tensor on {leaf.device}",
                where=where,
                fix="pass a dense CPU tensor: .cpu(), .to_dense()",
            )
        dtype = getattr(torch, _TORCH_NAMES[wanted.dtype])
        if leaf.dtype != dtype:
            raise _wrong_dtype(wanted, str(leaf.dtype), f"{wanted.name}.to({dtype})", where)
        tensor = leaf.detach().resolve_conj().resolve_neg().contiguous()
        return Taken(tensor.data_ptr(), tuple(tensor.shape), tensor)

    def empty(self, shape: Sequence[int], dtype: str) -> tuple[Any, int]:
        tensor = self._torch.empty(tuple(shape), dtype=getattr(self._torch, _TORCH_NAMES[dtype]), device="cpu")
        return tensor, tensor.data_ptr()

    def given(self, result: Any) -> Any:
        return result


def _wrong_dtype(wanted: Given, given: str, conversion: str, where: str) -> InputError:
    bits = " (its bits as uint16)" if wanted.dtype == "bf16" else ""
    return InputError(
        f"{wanted.name} has dtype {given}, expected {_TORCH_NAMES[wanted.dtype]}{bits}",
        where=where,
        fix=f"convert it: {conversion}",
    )
