"""Convolutional networks of the tests and the benchmark: architectures of `transformers` with random weights.

Random weights must not let activations vanish: convolutions are initialised to keep their variance, gains to 1, and
batch norms see a few batches in training mode. Dropout and stochastic depth are idle in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import transformers
from torch import Tensor, nn


class Logits(nn.Module):
    """A classifier that takes and gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels).logits
        return logits


class _Double(nn.Sequential):
    def __init__(self, channels: int, out: int) -> None:
        layers: list[nn.Module] = []
        for size in (channels, out):
            layers += [nn.Conv2d(size, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """The usual U-Net: each step down halves the image, each step up is a transposed convolution and a concat."""

    def __init__(self, classes: int = 2, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        sizes = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(_Double(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
        pairs = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_Double(a, b) for a, b in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        kept: list[Tensor] = []
        x = pixels
        for i, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        kept.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([kept.pop(), grow(x)], 1))
        logits: Tensor = self.head(x)
        return logits


def _resnet(kind: str, depths: list[int], sizes: list[int]) -> nn.Module:
    config = transformers.ResNetConfig(num_labels=1000, layer_type=kind, depths=depths, hidden_sizes=sizes)
    return Logits(transformers.ResNetForImageClassification(config))


def _efficientnet() -> nn.Module:
    """EfficientNet-B0."""
    config = transformers.EfficientNetConfig(
        num_labels=1000, width_coefficient=1.0, depth_coefficient=1.0, image_size=224, hidden_dim=1280, dropout_rate=0.2
    )
    model = transformers.EfficientNetForImageClassification(config)
    model.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)  # the same as its kernel of 1280, which OpenVINO refuses
    return Logits(model)


ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = {
    "resnet-18": lambda: _resnet("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet-50": lambda: _resnet("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "mobilenet-v2": lambda: Logits(
        transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(num_labels=1000))
    ),
    "efficientnet-b0": _efficientnet,
    "convnext-tiny": lambda: Logits(
        transformers.ConvNextForImageClassification(transformers.ConvNextConfig(num_labels=1000))
    ),
    "regnet-y-4gf": lambda: Logits(
        transformers.RegNetForImageClassification(transformers.RegNetConfig(num_labels=1000))
    ),
    "unet": UNet,
}
"""By name: how to build each."""


def load(name: str, size: int = 224) -> nn.Module:
    """The network in eval mode, with weights and statistics as described above, for images of `size`."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module.padding, str):  # torchao's quantizer knows only numbers
                same = module.padding == "same"
                taps = zip(module.dilation, module.kernel_size, strict=True)
                module.padding = tuple(step * (n - 1) // 2 if same else 0 for step, n in taps)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # some architectures begin with gains of 0.02
    for name_, parameter in model.named_parameters():
        if "layer_scale" in name_:
            nn.init.constant_(parameter, 0.1)  # not 1e-6, which leaves a branch without a say
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, size, size))
    return model.eval()
