"""What is called how: the cases of the benchmarks by group, and their contenders, in the order in which they stand."""

from __future__ import annotations

from collections.abc import Mapping

TRANSFORMERS: Mapping[str, str] = {
    "minilm-128": "all-MiniLM-L6-v2, 128 tokens",
    "minilm-16": "all-MiniLM-L6-v2, 16 tokens",
    "bert-base-128": "BERT-base, 128 tokens",
    "distilbert-128": "DistilBERT, 128 tokens",
    "vit-s16": "ViT-S/16",
    "swin-tiny": "Swin-T",
    "gpt2-128": "GPT-2, 128 tokens at once",
    "t5-encoder": "T5-small's encoder, 128 tokens",
    "whisper-tiny": "Whisper-tiny's encoder, 30 seconds",
}
CONVOLUTIONAL: Mapping[str, str] = {
    "resnet-50": "ResNet-50",
    "resnet-18": "ResNet-18",
    "mobilenet-v2": "MobileNetV2",
    "efficientnet-b0": "EfficientNet-B0",
    "convnext-tiny": "ConvNeXt-tiny",
    "regnet-y-4gf": "RegNetY-4GF",
    "unet": "U-Net with transposed convolutions",
}
OTHERS: Mapping[str, str] = {"mlp-64": "MLP, 64 rows", "mlp-1": "MLP, 1 row"}
TITLES: Mapping[str, str] = {**TRANSFORMERS, **CONVOLUTIONAL, **OTHERS}

OWN = "lower86"
CONTENDERS = (
    OWN, "OpenVINO int8", "ONNX Runtime static", "ONNX Runtime dynamic", "Inductor int8", "torchao lowering",
    "PyTorch fp32", "lower86 (torchao)",
)  # fmt: skip
CORES: Mapping[str, str] = {"znver3": "Zen 3", "znver4": "Zen 4", "znver5": "Zen 5"}
"""By LLVM's name of the CPU; others are called as the system calls them."""


def ordered(found: Mapping[str, object], known: Mapping[str, str]) -> list[str]:
    """The keys of `found`, those that are known in their order, then the others."""
    return [*(key for key in known if key in found), *sorted(set(found) - set(known))]
