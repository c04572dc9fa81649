"""Quantization-aware training of a network that calibration ruins: handwritten digits, a minute on one core.

The network is of depthwise convolutions whose channels differ in range by a factor of up to 128, as those of MobileNets
do, and its weights get one scale a tensor, so that most channels are left with a few integers. Calibration takes the
weights as they are; training moves them to where the integers are.

    python examples/qat_digits.py
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import lower86
from lower86 import QuantizationConfig, X86Quantizer

EPOCHS, TRAINING_EPOCHS, BATCH = 10, 4, 32
Digits = tuple[Tensor, Tensor]


def digits() -> tuple[Digits, Digits]:
    """Images, float32 [n, 1, 8, 8], and labels: two thirds to train on, one to test on."""
    data: Any = load_digits()
    images = torch.from_numpy(data.images).to(torch.float32)[:, None] / 16
    labels = torch.from_numpy(data.target)
    test = torch.arange(len(labels)) % 3 == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


class Separable(nn.Sequential):
    """A depthwise and a pointwise convolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, out, 1, bias=False)
        super().__init__(depthwise, nn.BatchNorm2d(channels), nn.ReLU(), pointwise, nn.BatchNorm2d(out), nn.ReLU())


def network() -> nn.Sequential:
    """A small MobileNet: [n, 1, 8, 8] to scores of ten digits."""
    stem = (nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    blocks = (Separable(32, 48, 1), Separable(48, 64, 2), Separable(64, 64, 1))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Scales channels after each depthwise convolution by 1 … 1/128, and undoes it in the next: the same function."""
    for block in model.modules():
        if isinstance(block, Separable):
            norm: Any = block[1]
            pointwise: Any = block[3]
            factors = 2.0 ** -(torch.arange(norm.num_features) % 8)
            norm.weight.mul_(factors)
            norm.bias.mul_(factors)
            pointwise.weight.div_(factors[:, None, None])


def train(model: nn.Module, data: Digits, epochs: int, rate: float) -> None:
    """Epochs of Adam with a falling rate. What `prepare_qat` returns is trained by the same loop as any model."""
    images, labels = data
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for first in range(0, len(order) - 1, BATCH):  # never one image alone: a batch norm cannot learn from that
            chosen = order[first : first + BATCH]
            loss: Any = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()


def calibrated(model: nn.Module, data: Digits, shapes: Any) -> GraphModule:
    """The model quantized as it is, with scales of activations from the images."""
    images, _ = data
    exported = torch.export.export(model.eval(), (images[:BATCH],), dynamic_shapes=shapes).module()
    prepared = prepare_pt2e(exported, X86Quantizer().set_global(QuantizationConfig.static(per_channel_weights=False)))
    with torch.no_grad():
        for first in range(0, len(images), BATCH):
            prepared(images[first : first + BATCH])
    quantized: GraphModule = convert_pt2e(prepared)
    return quantized


def accuracy(model: Callable[[Tensor], Tensor], data: Digits) -> float:
    """The share of the images that are given their own label."""
    images, labels = data
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).to(torch.float32).mean())


def main() -> None:
    """Train in float, quantize by calibration and by training, lower both, and print how often each is right."""
    torch.manual_seed(0)
    start = time.perf_counter()
    training, testing = digits()
    model = network()
    train(model, training, EPOCHS, 3e-3)
    spread(model)
    print(f"fp32                  {accuracy(model, testing):6.1%}")

    shapes = ({0: torch.export.Dim("batch", min=2, max=4096)},)
    example = (training[0][:BATCH],)
    static = lower86.lower_pt2e_quantized_to_x86(calibrated(model, training, shapes), example)
    print(f"int8, calibrated      {accuracy(static, testing):6.1%}")

    quantizer = X86Quantizer().set_global(QuantizationConfig.qat(per_channel_weights=False))
    prepared = lower86.prepare_qat(copy.deepcopy(model).train(), example, dynamic_shapes=shapes, quantizer=quantizer)
    train(prepared, training, TRAINING_EPOCHS, 1e-3)
    lowered = lower86.lower_pt2e_quantized_to_x86(lower86.convert(prepared), example)
    print(f"int8, trained         {accuracy(lowered, testing):6.1%}")
    print(f"contractions in int8  {lower86.explain(lowered).int8_fraction:6.1%}")
    print(f"all of it took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
