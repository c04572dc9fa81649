"""Tensors that operators find hard: signed zeros, denormals, infinities, NaN, the ends of what a dtype holds."""

from __future__ import annotations

import itertools

import torch
from hypothesis import settings
from hypothesis import strategies as st

FEW = settings(max_examples=6, deadline=None, derandomize=True, database=None)
NASTY = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 3e38, -3e38, float("inf"), -float("inf"), float("nan"),
)  # fmt: skip
ULPS = 1e-6
"""A few units in the last place, relative, and absolute for results near zero of terms near one."""
SIZES = (0, 1, 2, 3, 15, 16, 17, 33)
"""Sizes about a vector's width among them."""


@st.composite
def pairs(draw: st.DrawFn) -> tuple[torch.Size, torch.Size]:
    """Two shapes that broadcast."""
    shape = draw(st.lists(st.sampled_from(SIZES), max_size=3))
    other = [draw(st.sampled_from([1, size])) for size in shape][draw(st.integers(0, len(shape))) :]
    both = [shape, other] if draw(st.booleans()) else [other, shape]
    return torch.Size(both[0]), torch.Size(both[1])


def tensor(shape: torch.Size | tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Every third of the floats is a nasty one; integers stay within what every dtype holds."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        low = 0 if dtype == torch.uint8 else -100
        return torch.randint(low, 100, shape, generator=generator).to(dtype)
    values = torch.randn(shape, generator=generator, dtype=dtype) * 3
    flat = values.view(-1)
    for i in range(0, flat.numel(), 3):
        flat[i] = NASTY[(i // 3 + seed) % len(NASTY)]
    return values


def numbers(dtype: torch.dtype) -> torch.Tensor:
    """The nasty numbers of a dtype, and others."""
    if dtype == torch.bool:
        return torch.tensor([False, True])
    if dtype.is_floating_point:
        others = (2.0, 3.0, -3.0, 0.3, -0.7, 7.25, 100.0, -88.5, 20.5, 1e-3)
        return torch.tensor([*NASTY, *others], dtype=dtype)
    limits = torch.iinfo(dtype)
    some = [limits.min, limits.min + 1, limits.max - 1, limits.max, 0, 1, 2, 3, 7, 8, 31, 33, 63, 64, 100]
    return torch.tensor([*some, *([-1, -2, -3, -7, -33, -64] if limits.min else [])], dtype=dtype)


def every_pair(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Each of `numbers` with each."""
    both = torch.tensor(list(itertools.product(numbers(dtype).tolist(), repeat=2)), dtype=dtype)
    return both[:, 0].contiguous(), both[:, 1].contiguous()
