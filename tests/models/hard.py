"""A network that plain calibration ruins: outlier channels as in transformers, wide depthwise ranges as in MobileNets.

It is trained on scikit-learn's digits as any other. Then channels are scaled up where a value is made and down where it
is read, which changes nothing in float: a few of what each norm gives its linears, and all of what each depthwise
convolution reads.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.models.digits import digits

_EPOCHS, _BATCH = 10, 64
_OUTLIER, _DECADES = 300.0, 3.5
"""How much larger outlier channels are, and over how many powers of ten depthwise channels spread."""


class _Mobile(nn.Module):
    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if y.shape == x.shape else y


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        y: Tensor = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        return y


class HardNet(nn.Module):
    """Two inverted bottlenecks, 16 tokens through two transformer layers, a mean, a linear."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(_Mobile(width, 64, 1), _Mobile(width, 64, 2))
        self.layers = nn.Sequential(_Layer(width, 4), _Layer(width, 4))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.blocks(self.stem(x)).flatten(2).transpose(1, 2)
        y: Tensor = self.head(self.norm(self.layers(tokens)).mean(1))
        return y


def _train(model: nn.Module) -> None:
    images, labels, _, _ = digits()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(labels)).split(_BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()


def _harden(model: HardNet) -> None:
    """Scales channels up where they are made and down where they are read."""
    with torch.no_grad():
        for block in model.blocks:
            wide = block.expand[0].out_channels
            factors = 10 ** (torch.rand(wide) * _DECADES - _DECADES / 2)
            block.expand[1].weight *= factors
            block.expand[1].bias *= factors
            block.depthwise[0].weight /= factors[:, None, None, None]
        for layer in model.layers:
            for norm, linear in zip(layer.norms, (layer.qkv, layer.up), strict=True):
                factors = torch.ones(linear.in_features)
                factors[torch.randperm(len(factors))[:2]] = _OUTLIER
                norm.weight *= factors
                norm.bias *= factors
                linear.weight /= factors


def trained(cache: Path) -> nn.Module:
    """The hard network in eval mode; what training takes is kept in the cache folder."""
    torch.manual_seed(0)
    model, path = HardNet(), cache / "hard.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        _train(model)
        torch.save(model.state_dict(), path)
    torch.manual_seed(1)
    _harden(model)
    return model.eval()
