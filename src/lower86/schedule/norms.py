"""Rows that come out as long as they went in.

softmax(x)     m = max x;  s = Σ exp(x - m);  exp(x - m) / s      (_safe_softmax: 0 in a row of -inf alone)
layer_norm(x)  m = Σ x / n;  v = Σ (x - m)² / n;  (x - m) · (1 / sqrt(v + eps)) · weight + bias
rms_norm(x)    x · (1 / sqrt(Σ x² / n + eps)) · weight
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from .conditions import When, in_float32
from .rowbody import RowBody, RowOperation
from .scalars import Scalar, where

_A = torch.ops.aten


def _softmax(row: RowBody) -> Scalar:
    x = row.x("f32")
    power = (x - row.reduce("max", x)).call("exp")
    return power / row.reduce("sum", power)


def _safe_softmax(row: RowBody) -> Scalar:
    x = row.x("f32")
    top = row.reduce("max", x)
    power = (x - where(top.equals(-math.inf), 0.0, top)).call("exp")
    total = row.reduce("sum", power)
    return power / where(total.equals(0.0), 1.0, total)  # 0 if every power is, and then 0 / 1


def _log_softmax(row: RowBody) -> Scalar:
    x = row.x("f32")
    shifted = x - row.reduce("max", x)
    return shifted - row.reduce("sum", shifted.call("exp")).call("log")


def _layer_norm(row: RowBody) -> Scalar:
    x, at = row.x("f32"), row.at
    centred = x - row.mean(x)
    y = centred * (row.mean(centred * centred) + float(at.number("eps"))).call("rsqrt")
    y = y * at("weight") if at.given("weight") else y
    return y + at("bias") if at.given("bias") else y


def _rms_norm(row: RowBody) -> Scalar:
    x, at = row.x("f32"), row.at
    eps = float(at.number("eps") if at.given("eps") else torch.finfo(torch.float32).eps)
    y = x * (row.mean(x * x) + eps).call("rsqrt")
    return y * at("weight") if at.given("weight") else y


def _is_float32(node: Node) -> bool:
    source = node.args[0]
    return isinstance(source, Node) and in_float32(node) and in_float32(source)


_FLOAT32 = When("float32", _is_float32)

NORMS: Mapping[Any, RowOperation] = {
    _A.softmax.int: RowOperation(_softmax, _FLOAT32, full=True),
    _A._safe_softmax.default: RowOperation(_safe_softmax, _FLOAT32, full=True),
    _A.log_softmax.int: RowOperation(_log_softmax, _FLOAT32, full=True),
    _A.layer_norm.default: RowOperation(_layer_norm, _FLOAT32, full=True),
    _A.rms_norm.default: RowOperation(_rms_norm, _FLOAT32, full=True),
}
