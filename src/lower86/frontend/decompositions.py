"""Which composite operators the post-autograd table takes apart, and which stay whole.

PyTorch's own lowering takes every composite-implicit operator apart, and then cannot find the linear again. Here those
that a kernel computes as one stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .recurrent_spelling import decompositions

KEEP = (
    "linear", "matmul", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "scaled_dot_product_attention", "layer_norm", "group_norm", "instance_norm", "rms_norm", "softmax",
    "log_softmax", "pad", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "gelu", "silu", "relu6",
    "hardtanh",
    "torchao::quantize_affine", "torchao::dequantize_affine",
)  # fmt: skip
"""Operators (all overloads) that stay whole."""


def is_composite(operator: Any) -> bool:
    """Whether PyTorch defines `operator` by other operators alone, for every backend and with autograd."""
    # Nothing public lists an operator's kernels; tests/frontend/test_decompositions.py names operators of both kinds.
    has_kernel: Any = torch._C._dispatch_has_kernel_for_dispatch_key
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    return bool(has_kernel(str(operator._name), "CompositeImplicitAutograd"))


def table() -> dict[Any, Callable[..., Any]]:
    """The decomposition table: composite-implicit operators without `KEEP`, recurrent layers as kernels want them."""
    default: Any = torch.export.default_decompositions()
    chosen = {
        operator: decomposition
        for operator, decomposition in default.items()
        if is_composite(operator) and operator._schema.name.removeprefix("aten::") not in KEEP
    }
    return {**chosen, **decompositions(default)}
