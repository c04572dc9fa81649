"""A lowered module, saved and loaded again; and whether two results are the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import lower86
from lower86.artifact import LoadedProgram
from lower86.lowered import LoweredModule


def again(lowered: LoweredModule, folder: Path, **options: Any) -> LoadedProgram:
    """The module from its file."""
    path = folder / "model.safetensors"
    assert lower86.save(lowered, path) == path.stat().st_size
    return lower86.load(path, **options)


def bits(leaf: Any) -> Any:
    """A tensor or array as its element's size, its shape and its bytes."""
    if isinstance(leaf, Tensor):
        return leaf.element_size(), tuple(leaf.shape), leaf.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return (leaf.itemsize, leaf.shape, leaf.tobytes()) if isinstance(leaf, np.ndarray) else leaf


def same_bits(got: Any, expected: Any) -> None:
    """Equal leaves in equal order; a tensor equals an array of the same bits."""
    assert [bits(leaf) for leaf in tree_leaves(got)] == [bits(leaf) for leaf in tree_leaves(expected)]


def as_numpy(value: Any) -> Any:
    """Nested tensors as arrays; those of bf16 as their bits."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.view(torch.uint16).numpy() if leaf.dtype == torch.bfloat16 else leaf.numpy()

    return tree_map(one, value)


def agrees(lowered: LoweredModule, program: LoadedProgram, *inputs: Any, **named: Any) -> Any:
    """Calls both, with tensors and with arrays; all results are the same bits. Returns the loaded program's tensors."""
    expected = lowered(*inputs, **named)
    got = program(*inputs, **named)
    same_bits(got, expected)
    arrays = program(*as_numpy(inputs), **as_numpy(named))
    same_bits(arrays, expected)
    given = [leaf for leaf in tree_leaves((inputs, named)) if isinstance(leaf, Tensor)]
    if given:
        for kind, result in ((Tensor, got), (np.ndarray, arrays)):
            assert all(isinstance(leaf, kind) for leaf in tree_leaves(result) if hasattr(leaf, "dtype"))
    return got
