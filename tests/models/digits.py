"""A small ResNet trained on the digits of scikit-learn, 8 x 8 pixels; the weights are kept in pytest's cache folder."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

_EPOCHS, _BATCH = 12, 64


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + self.norms[2](self.shortcut(x)))


class DigitsNet(nn.Module):
    """Three residual blocks, global mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(_Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return y


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images to train on and their labels, then those to test on: every third."""
    data = load_digits()
    images = torch.from_numpy(data.images).to(torch.float32)[:, None] / 16
    labels = torch.from_numpy(data.target)
    test = torch.arange(len(labels)) % 3 == 0
    return images[~test], labels[~test], images[test], labels[test]


def trained(cache: Path) -> nn.Module:
    """The network in eval mode, from the cache folder if it is there."""
    torch.manual_seed(0)
    model, path = DigitsNet(), cache / "digits.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    images, labels, _, _ = digits()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(labels)).split(_BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    torch.save(model.state_dict(), path)
    return model.eval()


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of the images whose highest score is their label's."""
    return (scores.argmax(1) == labels).to(torch.float32).mean().item()
