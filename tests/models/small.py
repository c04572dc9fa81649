"""Three small models of the usual parts, quantized by torchao in the tests that use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linears with a relu between them and a residual around them: f32 [..., 16] to f32 [..., 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Attention(nn.Module):
    """Self-attention with a boolean mask, then a residual and a layer norm: f32 [b, n, 16], bool [b, n]."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.view(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)

        bias = torch.zeros(mask.shape).masked_fill(~mask, -1e9)[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)), bias)
        return self.norm(x + self.out(y.transpose(1, 2).reshape(x.shape)))


class Embedding(nn.Module):
    """Token and position embeddings, a linear with gelu, a mean over tokens: i64 [b, n <= 8] to f32 [b, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 16), nn.Embedding(8, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 10)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.down(nn.functional.gelu(self.up(x))).mean(1)
