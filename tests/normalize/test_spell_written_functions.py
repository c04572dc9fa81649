from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lower86.graph.text import text_of
from lower86.normalize import normalize
from tests.models.checks import near
from tests.normalize.graphs import graph_of

X, W = 2 * torch.randn(3, 5, 8), torch.randn(8)


def rms(x: Tensor, dim: int = -1, keep: bool = True, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(dim, keepdim=keep) + eps)


def gelu(x: Tensor, root: float = math.sqrt(2 / math.pi), share: float = 0.044715) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(root * (x + share * torch.pow(x, 3.0))))


CASES: dict[str, tuple[Any, str]] = {
    "rms norm": (lambda x, w: rms(x), "rms_norm(inputs_0, [8], None, 1e-06)"),
    "rms norm, weighted": (lambda x, w: w * rms(x), "rms_norm(inputs_0, [8], f32[8], 1e-06)"),
    "rms norm of a square": (lambda x, w: (x * x).mean(-1, True).add(0.5).rsqrt() * x, "rms_norm(inputs_0"),
    "gelu": (lambda x, w: gelu(x), "gelu(inputs_0, approximate=tanh)"),
    "another dim": (lambda x, w: rms(x, 1), "rsqrt("),
    "two dims": (lambda x, w: x * torch.rsqrt(x.pow(2).mean((1, 2), keepdim=True) + 1.0), "rsqrt("),
    "the norm of another": (lambda x, w: (x + 1) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1.0), "rsqrt("),
    "another factor": (lambda x, w: gelu(x, share=0.05), "tanh("),
    "another root": (lambda x, w: gelu(x, root=0.8), "tanh("),
}


@pytest.mark.parametrize("name", CASES)
def test_becomes(name: str) -> None:
    function, wanted = CASES[name]
    module = graph_of(function, X, constants=(W,))
    expected = module(X)
    normalize(module)
    module.recompile()
    near(module(X), expected)
    assert wanted in text_of(module)
