"""bf16 and f16 in NumPy: PyTorch rounds, NumPy holds the bits."""

from __future__ import annotations

import numpy as np
import torch

from tests.harness import Array

TORCH = {"bf16": torch.bfloat16, "f16": torch.float16}
NARROW = tuple(TORCH)


def narrowed(dtype: str, x: Array) -> Array:
    """float32 rounded to `dtype`, as memory holds it."""
    bits = torch.from_numpy(np.ascontiguousarray(x)).to(TORCH[dtype]).view(torch.int16).numpy()
    return bits.view(np.uint16 if dtype == "bf16" else np.float16)


def widened(dtype: str, stored: Array) -> Array:
    """What memory holds, as float32."""
    bits = torch.from_numpy(np.ascontiguousarray(stored).view(np.int16))
    wide: Array = bits.view(TORCH[dtype]).to(torch.float32).numpy()
    return wide
