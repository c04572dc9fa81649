"""A small call of every operator that is native or spelled by native ones: what the documentation claims, to be run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.schedule.values import ULPS, tensor

A = torch.ops.aten


@dataclass(frozen=True)
class Example:
    """Arguments of a call; how far off the result may be; which of several results counts."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    result: int | None = None


def call(*args: Any, tolerance: float = 0.0, result: int | None = None, **kwargs: Any) -> Example:
    return Example(args, kwargs, tolerance, result)


def constant(value: torch.Tensor) -> torch.nn.Parameter:
    """A tensor that is part of the model, not an input."""
    return torch.nn.Parameter(value, requires_grad=False)


X = tensor((3, 5, 17), torch.float32)
Y = tensor((5, 17), torch.float32, 1)
N = torch.randn(3, 5, 17, generator=torch.Generator().manual_seed(2))
P = N.abs() + 0.1
WHOLE, OTHER = tensor((3, 5, 17), torch.int64), tensor((5, 17), torch.int64, 1)
B, C = tensor((3, 5, 17), torch.bool), tensor((5, 17), torch.bool, 1)
IMAGE = torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(3))
CHANNELS = torch.randn(8, generator=torch.Generator().manual_seed(4))
TABLE = torch.randn(11, 6, generator=torch.Generator().manual_seed(5))
PLACES = torch.tensor([[0, 10, 3], [7, 7, 1]])
WIDE = 1e-5


def _default(names: str, example: Example) -> Iterator[tuple[Any, Example]]:
    for name in names.split():
        yield getattr(A, name).default, example


def _overloads(names: str, overloads: str, example: Example) -> Iterator[tuple[Any, Example]]:
    for name in names.split():
        for overload in overloads.split():
            yield getattr(getattr(A, name), overload), example


def _elementwise() -> Iterator[tuple[Any, Example]]:
    yield from _default("round floor ceil trunc neg abs reciprocal square frac sign sgn deg2rad rad2deg", call(X))
    yield A.sqrt.default, call(X, tolerance=ULPS)  # PyTorch's is not always the nearest
    yield from _default("exp exp2 expm1 log log2 log10 log1p erf tanh sigmoid rsqrt logit", call(X, tolerance=ULPS))
    yield from _default("sin cos", call(N * 100, tolerance=ULPS))
    yield from _default("tan silu sinh cosh asinh atan", call(N, tolerance=ULPS))
    yield from _default("asin acos atanh", call(N / 4, tolerance=ULPS))
    yield A.acosh.default, call(P + 1, tolerance=ULPS)
    yield A.atan2.default, call(X, Y, tolerance=ULPS)
    yield from _default("isnan isinf isposinf isneginf isfinite logical_not nan_to_num", call(X))
    yield from _default("bitwise_not", call(WHOLE))
    yield from _default("logaddexp", call(X, Y, tolerance=ULPS))
    yield A.xlogy.Tensor, call(X, Y.abs(), tolerance=ULPS)
    yield from _default("maximum minimum fmax fmin logical_and logical_or logical_xor", call(X, Y))
    yield from _overloads("add sub rsub mul div eq ne lt le gt ge remainder fmod", "Tensor", call(N, Y[:1] * 0 + 0.75))
    yield from _overloads("add sub rsub mul div eq ne lt le gt ge remainder fmod", "Scalar", call(X, 1.5))
    yield from _overloads("bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__", "Tensor", call(WHOLE, OTHER))
    yield from _overloads("bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__", "Scalar", call(WHOLE, 5))
    yield from _overloads("bitwise_left_shift bitwise_right_shift", "Tensor", call(WHOLE, OTHER))
    yield from _overloads("bitwise_left_shift bitwise_right_shift", "Tensor_Scalar", call(WHOLE, 3))
    yield from _overloads("__lshift__ __rshift__", "Tensor", call(WHOLE, OTHER % 64))
    yield from _overloads("__lshift__ __rshift__", "Scalar", call(WHOLE, 3))
    yield from _default("hypot heaviside", call(X, Y, tolerance=ULPS))
    yield A.true_divide.Tensor, call(X, Y)
    yield A.div.Tensor_mode, call(N, P, rounding_mode="trunc")
    yield A.div.Scalar_mode, call(WHOLE, 7, rounding_mode="floor")
    yield A.floor_divide.default, call(N, P)
    yield A.floor_divide.Scalar, call(WHOLE, -7)
    yield A.pow.Tensor_Scalar, call(X, 2.5, tolerance=ULPS)
    yield A.pow.Tensor_Tensor, call(P, N, tolerance=ULPS)
    yield A.pow.Scalar, call(2.5, N, tolerance=ULPS)
    yield from _default("addcmul addcdiv", call(N, N, P, value=0.5, tolerance=ULPS))
    yield A.lerp.Tensor, call(N, P, P, tolerance=ULPS)
    yield A.lerp.Scalar, call(N, P, 0.25, tolerance=ULPS)
    yield A.where.self, call(B, X, Y)
    yield A.where.ScalarOther, call(B, X, 2.0)
    yield A.where.ScalarSelf, call(B, 2.0, X)
    yield A.where.Scalar, call(B, 2.0, 3.0)
    yield A.masked_fill.Scalar, call(X, B, -float("inf"))
    yield A.masked_fill.Tensor, call(X, B, torch.tensor(2.0))
    yield A._to_copy.default, call(WHOLE, dtype=torch.float32)
    yield A.to.dtype_layout, call(WHOLE, dtype=torch.float32)
    yield A.to.dtype, call(WHOLE, torch.float32)
    yield A.clamp.default, call(X, -1.0, 0.5)
    yield A.clamp.Tensor, call(X, Y, Y + 1)
    yield from _default("clamp_min clamp_max", call(X, 0.25))
    yield from _overloads("clamp_min clamp_max", "Tensor", call(X, Y))
    yield from _default("relu relu6 hardtanh leaky_relu hardshrink softshrink hardswish hardsigmoid", call(X))
    yield from _default("gelu elu celu selu softplus mish log_sigmoid", call(N, tolerance=3e-6))
    yield A._prelu_kernel.default, call(X, Y)
    yield A.threshold.default, call(X, 0.5, 2.0)


def _constructors() -> Iterator[tuple[Any, Example]]:
    yield A.full.default, call([2, 3], 1.5)
    yield A.full_like.default, call(X, 1.5)
    yield A.new_full.default, call(X, [2, 3], 7)
    yield A.scalar_tensor.default, call(1.5)
    yield A.fill.Scalar, call(X, 1.5)
    yield A.fill.Tensor, call(X, torch.tensor(1.5))
    yield from _default("ones zeros", call([2, 3]))
    yield from _default("ones_like zeros_like zero", call(X))
    yield from _default("new_ones new_zeros", call(X, [2, 3]))
    yield A.arange.default, call(7)
    yield A.arange.start, call(2, 7)
    yield A.arange.start_step, call(2, 40, 3)
    yield A.eye.default, call(5)
    yield A.eye.m, call(5, 3)
    yield from _default("tril triu", call(X, -1))


def _rows() -> Iterator[tuple[Any, Example]]:
    yield from _overloads("sum mean prod", "default", call(N / 4 + 1, tolerance=WIDE))
    yield from _overloads("max min any all var std", "default", call(N, tolerance=WIDE))
    yield A.sum.dim_IntList, call(N, [0, 2], tolerance=WIDE)
    yield A.mean.dim, call(N, [1], True, tolerance=WIDE)
    yield A.prod.dim_int, call(N, 1, tolerance=WIDE)
    yield A.nansum.default, call(X, [0], tolerance=WIDE)
    yield from _overloads("var std", "dim correction", call(N, [1], tolerance=WIDE))
    yield from _default("amax amin", call(X, [1]))
    yield from _default("argmax argmin", call(X, 1))
    yield from _overloads("any all", "dim", call(B, 1))
    yield from _overloads("any all", "dims", call(B, [0, 1]))
    yield A.count_nonzero.default, call(X, 1)
    yield A.count_nonzero.dim_IntList, call(X, [0, 2])
    yield A.linalg_vector_norm.default, call(N, 2, [1], tolerance=WIDE)
    yield A.norm.ScalarOpt_dim, call(N, 3, [1], True, tolerance=WIDE)
    yield A.norm.Scalar, call(N, 1, tolerance=WIDE)
    yield A.logsumexp.default, call(N, [1], tolerance=WIDE)
    yield from _default("cumsum cumprod", call(N, 1, tolerance=WIDE))
    yield A._safe_softmax.default, call(torch.where(C[None] & B, -torch.inf, N), 2, tolerance=WIDE)
    yield from _overloads("softmax log_softmax", "int", call(N, 1, tolerance=WIDE))
    yield from _default("_softmax _log_softmax", call(N, 1, False, tolerance=WIDE))
    yield A.layer_norm.default, call(N, [5, 17], Y * 0 + 2, tolerance=WIDE)
    yield A.native_layer_norm.default, call(N, [17], None, None, 1e-5, tolerance=WIDE, result=0)
    yield A.rms_norm.default, call(N, [17], tolerance=WIDE)
    yield A.group_norm.default, call(IMAGE, 4, CHANNELS, CHANNELS, tolerance=WIDE)
    yield (
        A.native_group_norm.default,
        call(IMAGE, CHANNELS, CHANNELS, 2, 8, 42, 2, 1e-5, tolerance=WIDE, result=0),
    )
    yield (
        A.instance_norm.default,
        call(IMAGE, CHANNELS, CHANNELS, None, None, True, 0.1, 1e-5, False, tolerance=WIDE),
    )
    given = (IMAGE, CHANNELS, CHANNELS, CHANNELS, CHANNELS.abs())
    yield A.batch_norm.default, call(*given, False, 0.1, 1e-5, False, tolerance=WIDE)
    yield A.native_batch_norm.default, call(*given, False, 0.1, 1e-5, tolerance=WIDE, result=0)
    yield A._native_batch_norm_legit_no_training.default, call(*given, 0.1, 1e-5, tolerance=WIDE, result=0)
    yield from _overloads("max min", "dim", call(X, 1, result=1))
    yield A.aminmax.default, call(X, dim=1, keepdim=True, result=1)
    yield from _overloads("var_mean std_mean", "correction", call(N, [1], tolerance=WIDE, result=0))
    yield A.native_dropout.default, call(N, 0.5, False, result=0)
    yield A.log_sigmoid_forward.default, call(N, tolerance=ULPS, result=0)


def _gathers() -> Iterator[tuple[Any, Example]]:
    yield A.embedding.default, call(TABLE, PLACES)
    yield A.index_select.default, call(TABLE, 0, PLACES[0])
    yield A.gather.default, call(TABLE, 0, PLACES)
    yield A.index.Tensor, call(TABLE, [PLACES])
    yield A.flip.default, call(X, [0, 2])
    yield A.roll.default, call(X, [2, -3], [1, 2])
    yield A.pad.default, call(X, [2, 1], "reflect")
    yield A.constant_pad_nd.default, call(X, [2, 1, 0, 3], 0.5)
    for name in ("reflection", "replication"):
        for dims, x in ((1, X), (2, IMAGE), (3, IMAGE[None])):
            yield getattr(A, f"{name}_pad{dims}d").default, call(x, [1, 2] * dims)
    offsets = constant(torch.arange(0, 6, 3))
    for name in ("_embedding_bag", "_embedding_bag_forward_only"):
        yield getattr(A, name).default, call(TABLE, PLACES.view(-1), offsets, tolerance=ULPS, result=0)


def _movement() -> Iterator[tuple[Any, Example]]:
    yield A.permute.default, call(X, [2, 0, 1])
    yield A.transpose.int, call(X, 0, -1)
    yield from _default("t numpy_T", call(Y))
    yield from _default("view reshape _unsafe_view view_copy", call(X, [5, 51]))
    yield from _default("squeeze", call(X[:, :1]))
    yield from _default("unsqueeze unsqueeze_copy", call(X, 1))
    yield A.squeeze.dim, call(X[:, :1], 1)
    yield A.squeeze.dims, call(X[:, :1], [1])
    yield A.flatten.using_ints, call(X, 0, 1)
    yield A.unflatten.int, call(X, 2, [17, 1])
    yield from _default("expand expand_copy", call(X[:, :1], [3, 5, 17]))
    yield A.slice.Tensor, call(X, 1, 1, 4, 2)
    yield from _overloads("select select_copy", "int", call(X, 1, -2))
    yield A.unfold.default, call(X, 2, 5, 3)
    yield A.diagonal.default, call(X, 1, 1, 2)
    yield A.cat.default, call([X, X[:, :2]], 1)
    yield A.stack.default, call([X, N], 1)
    yield A.diagonal_copy.default, call(X, 1, 1, 2)
    yield A.trace.default, call(TABLE, tolerance=WIDE)
    yield A.clone.default, call(X)
    yield A.slice_scatter.default, call(X, N[:, 1:4:2], 1, 1, 4, 2)
    yield A.index_copy.default, call(X, 1, torch.tensor([4, 0]), N[:, 1:3])
    yield A.index_put.default, call(X, [None, torch.tensor([-1, 0])], N[:, 1:3])
    yield A.select_scatter.default, call(X, N[:, 0], 1, -2)
    yield A.as_strided.default, call(X, [4, 3], [2, 1], 1)
    yield A.as_strided_copy.default, call(X, [4, 3], [2, 1], 1)
    yield A.repeat.default, call(X, [2, 1, 3, 1])
    yield A.pixel_shuffle.default, call(IMAGE, 2)
    yield A.pixel_unshuffle.default, call(IMAGE[..., :6], 3)
    yield from _default("channel_shuffle native_channel_shuffle", call(IMAGE, 4))
    yield A.im2col.default, call(IMAGE, [3, 2], [2, 1], [1, 2], [2, 1])
    yield A.col2im.default, call(torch.randn(2, 12, 12), [6, 12], [2, 3], [1, 1], [0, 0], [2, 3])
    yield A.rot90.default, call(X, 1, [1, 2])
    yield A.glu.default, call(IMAGE, 1, tolerance=ULPS)
    yield A.copy.default, call(X, Y)
    yield from _default("clone alias detach contiguous lift_fresh_copy positive", call(X))
    yield A.dropout.default, call(X, 0.5, False)
    for name, example in (
        ("split.Tensor", call(X, 2, 1, result=1)),
        ("chunk.default", call(X, 2, 1, result=1)),
        ("split_with_sizes.default", call(X, [1, 4], 1, result=1)),
        ("unsafe_split.Tensor", call(X, 2, 1, result=1)),
        ("unbind.int", call(X, 1, result=1)),
    ):
        packet, overload = name.split(".")
        yield getattr(getattr(A, packet), overload), example


def _products() -> Iterator[tuple[Any, Example]]:
    x, y = N, N.transpose(1, 2).contiguous()
    yield from _default("matmul bmm", call(x, y, tolerance=WIDE))
    yield A.mm.default, call(x[0], y[0], tolerance=WIDE)
    yield A.addmm.default, call(torch.randn(5), x[0], y[0], tolerance=WIDE)
    yield A.baddbmm.default, call(torch.randn(3, 5, 5), x, y, beta=0.5, alpha=2, tolerance=WIDE)
    yield A.mv.default, call(y[0], x[0, :, :5].diagonal(), tolerance=WIDE)
    yield from _default("dot vdot", call(x[0, 0], y[1, :, 2], tolerance=WIDE))
    yield A.addmv.default, call(x[0, :, 0], x[0], y[0, :, 1], beta=0.5, alpha=2, tolerance=WIDE)
    yield A.linear.default, call(x, torch.randn(9, 17), torch.randn(9), tolerance=WIDE)
    yield A.scaled_dot_product_attention.default, call(x, x, x, tolerance=WIDE)


def _convolutions() -> Iterator[tuple[Any, Example]]:
    for dims in (1, 2, 3):
        x = torch.randn(2, 6, *(9, 8, 7)[:dims])
        w, b = constant(torch.randn(4, 3, *(3, 2, 3)[:dims]) / 4), constant(torch.randn(4))
        turned = constant(torch.randn(6, 2, *(3, 2, 3)[:dims]) / 4)
        convolution, transposed = getattr(A, f"conv{dims}d"), getattr(A, f"conv_transpose{dims}d")
        yield convolution.default, call(x, w, b, [2] * dims, [1] * dims, [1] * dims, 2, tolerance=WIDE)
        yield convolution.padding, call(x, w, None, [1] * dims, "same", [2] * dims, 2, tolerance=WIDE)
        overload = transposed.default if dims == 1 else transposed.input
        yield overload, call(x, turned, b, [2] * dims, [1] * dims, [1] * dims, 2, [1] * dims, tolerance=WIDE)
    w = constant(torch.randn(8, 1, 3, 3))
    yield A.convolution.default, call(IMAGE, w, None, [1, 2], [1, 0], [2, 1], False, [0, 0], 8, tolerance=WIDE)


def _pools() -> Iterator[tuple[Any, Example]]:
    for dims in (1, 2, 3):
        x = torch.randn(2, 3, *(11, 8, 7)[:dims])
        yield getattr(A, f"max_pool{dims}d").default, call(x, 3, 2, 1, 1, True)
        if dims > 1:
            yield getattr(A, f"max_pool{dims}d_with_indices").default, call(x, [3] * dims, [1] * dims, result=0)
            yield getattr(A, f"adaptive_max_pool{dims}d").default, call(x[..., :4, :6], [11, 2, 3][-dims:], result=0)
        yield getattr(A, f"avg_pool{dims}d").default, call(x, [3] * dims, [2] * dims, [1] * dims, True, tolerance=WIDE)
        adaptive = [4, 3, 7][:dims]
        yield getattr(A, f"adaptive_avg_pool{dims}d").default, call(x, adaptive, tolerance=WIDE)
        if dims > 1:
            yield getattr(A, f"_adaptive_avg_pool{dims}d").default, call(x, [1] * dims, tolerance=WIDE)


def _upsamples() -> Iterator[tuple[Any, Example]]:
    linear = {1: "linear1d", 2: "bilinear2d", 3: "trilinear3d"}
    for dims in (1, 2, 3):
        x, sizes = torch.randn(2, 3, *(4, 5, 3)[:dims]), [7, 10, 4][:dims]
        nearest, smooth = getattr(A, f"upsample_nearest{dims}d"), getattr(A, f"upsample_{linear[dims]}")
        yield nearest.default, call(x, sizes)
        yield nearest.vec, call(x, None, [1.7] * dims)
        yield smooth.default, call(x, sizes, True, tolerance=WIDE)
        yield smooth.vec, call(x, None, False, [2.0] * dims, tolerance=WIDE)


_GENERATORS: tuple[Callable[[], Iterator[tuple[Any, Example]]], ...] = (
    _elementwise, _constructors, _rows, _gathers, _movement, _products, _convolutions, _pools,
    _upsamples,
)  # fmt: skip
EXAMPLES: dict[Any, Example] = {operator: example for make in _GENERATORS for operator, example in make()}
UNDEFINED = (A.empty.memory_format, A.empty_like.default, A.new_empty.default)
"""Operators whose results are anything at all: there is nothing to compare."""
