"""Activations: `ACTIVATIONS` says how each is computed, in PyTorch's own order of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from ..graph.arguments import arguments
from ..graph.qparams import is_plain_quantize
from .conditions import FLOAT32, FLOATS, When, kind
from .scalars import At, Elementwise, Scalar, formula, where

_A = torch.ops.aten
_COARSE_STEP = 0.002
"""At this scale a coarse function moves no more roundings than another order of additions does."""
_ANY_NUMBER = When("", lambda node: kind(node) != "bool")


def _relu(at: At) -> Scalar:
    return at("self").at_least(0)


def _relu6(at: At) -> Scalar:
    return _relu(at).at_most(6)


def _hardtanh(at: At) -> Scalar:
    return at("self").at_least(at.number("min_val")).at_most(at.number("max_val"))


def _gelu(at: At) -> Scalar:
    name = "gelu_tanh" if at.number("approximate") == "tanh" else "gelu"
    return at("self").call(f"{name}_coarse" if _is_only_quantized(at.node) else name)


def _is_only_quantized(node: Node) -> bool:
    """Whether all that is seen of the value are integers, of steps of which an error of 10⁻⁶ is next to nothing."""
    return bool(node.users) and all(
        is_plain_quantize(user) and arguments(user)["scale"] >= _COARSE_STEP for user in node.users
    )


def _elu(at: At) -> Scalar:
    x, scale = at("self"), at.number("scale")
    low = (x * at.number("input_scale")).call("expm1") * (at.number("alpha") * scale)
    return where(x < 0, low, x * scale)


def _celu(at: At) -> Scalar:
    x, alpha = at("self"), at.number("alpha")
    return where(x < 0, (x * (1 / alpha)).call("expm1") * alpha, x)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _selu(at: At) -> Scalar:
    x = at("self")
    return where(x < 0, x.call("expm1") * (_SELU_ALPHA * _SELU_SCALE), x * _SELU_SCALE)


def _leaky_relu(at: At) -> Scalar:
    x = at("self")
    return where(x > 0, x, x * at.number("negative_slope"))


def _prelu(at: At) -> Scalar:
    x = at("self")
    return where(x > 0, x, at("weight") * x)


def _threshold(at: At) -> Scalar:
    x = at("self")
    return where(x <= at.number("threshold"), at.number("value"), x)


def _hardshrink(at: At) -> Scalar:
    x, bound = at("self"), at.number("lambd")
    return where((x >= -bound) & (x <= bound), 0, x)


def _softshrink(at: At) -> Scalar:
    x, bound = at("self"), at.number("lambd")
    # x·0 is 0 with the sign of x, and NaN stays.
    return where(x > bound, x - bound, where(x < -bound, x + bound, x * 0))


def _shifted6(x: Scalar) -> Scalar:
    return (x + 3).at_least(0).at_most(6)


def _hardswish(at: At) -> Scalar:
    x = at("self")
    return x * _shifted6(x) / 6


def _hardsigmoid(at: At) -> Scalar:
    return _shifted6(at("self")) / 6


def _softplus(at: At) -> Scalar:
    x, beta, threshold = at("self"), at.number("beta"), at.number("threshold")
    if (beta, threshold) == (1, 20):
        return x.call("softplus")
    scaled = x * beta
    return where(scaled > threshold, x, scaled.call("exp").call("log1p") / beta)


def _mish(at: At) -> Scalar:
    x = at("self")
    return x * x.call("exp").call("log1p").call("tanh")


def _log_sigmoid(at: At) -> Scalar:
    x = at("self")
    return x.at_most(0) - (-abs(x)).call("exp").call("log1p")


_FORMULAS: Mapping[Any, tuple[Callable[[At], Scalar], When]] = {
    _A.relu.default: (_relu, _ANY_NUMBER),
    _A.relu6.default: (_relu6, _ANY_NUMBER),
    _A.hardtanh.default: (_hardtanh, _ANY_NUMBER),
    _A.gelu.default: (_gelu, FLOAT32),
    _A.elu.default: (_elu, FLOAT32),
    _A.celu.default: (_celu, FLOAT32),
    _A.selu.default: (_selu, FLOAT32),
    _A.leaky_relu.default: (_leaky_relu, FLOATS),
    _A._prelu_kernel.default: (_prelu, FLOATS),
    _A.threshold.default: (_threshold, FLOATS),
    _A.hardshrink.default: (_hardshrink, FLOATS),
    _A.softshrink.default: (_softshrink, FLOATS),
    _A.hardswish.default: (_hardswish, FLOATS),
    _A.hardsigmoid.default: (_hardsigmoid, FLOATS),
    _A.softplus.default: (_softplus, FLOAT32),
    _A.mish.default: (_mish, FLOAT32),
    _A.log_sigmoid.default: (_log_sigmoid, FLOAT32),
}
ACTIVATIONS: Mapping[Any, Elementwise] = {operator: formula(*how) for operator, how in _FORMULAS.items()}
