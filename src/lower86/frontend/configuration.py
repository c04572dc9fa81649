"""How a part of a model is to be quantized, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..errors import Lower86Error


@dataclass(frozen=True)
class Integers:
    """The integers that stand for a real tensor; `symmetric` fixes the zero point at 0."""

    dtype: torch.dtype
    low: int
    high: int
    symmetric: bool


@dataclass(frozen=True)
class QuantizationConfig:
    """How contractions and what stands between them are quantized. Weights are s8 around zero in any case.

    mode: "static": scales of activations from calibration (`prepare_pt2e`); "dynamic": from each input at run time, for
        linears with constant weights and for what LSTM and GRU read (their own states stand for [-1, 1]); "qat": learnt
        in training (`prepare_qat_pt2e`).
    per_token: with "dynamic": a scale for each row of the last dim, not one for the tensor.
    symmetric_activations: s8 around zero; else u8 with a zero point.
    reduce_range: seven bits for activations (0…127, or -63…63), as CPUs need that add products in 16 bits. lower86's
        own code does not need it.
    per_channel_weights: a scale for each output channel, and each row of an embedding's table; else one for the tensor.
    residual_adds: which additions to a contraction's result read their other operand quantized. "convolutions": those
        to a convolution's, where that operand is quantized anyway or is a convolution's result itself; "all": those to
        any contraction's, which costs transformers accuracy; "none".
    """

    mode: Literal["static", "dynamic", "qat"] = "static"
    per_token: bool = False
    symmetric_activations: bool = False
    reduce_range: bool = False
    per_channel_weights: bool = True
    residual_adds: Literal["convolutions", "all", "none"] = "convolutions"

    def __post_init__(self) -> None:
        _check(self.mode, "mode", ("static", "dynamic", "qat"))
        _check(self.residual_adds, "residual_adds", ("convolutions", "all", "none"))
        if self.per_token and self.mode != "dynamic":
            raise Lower86Error(
                f'a scale for each token is known only at run time, not with mode="{self.mode}"',
                where="QuantizationConfig",
                fix="use QuantizationConfig.dynamic(per_token=True), or leave per_token out",
            )

    @classmethod
    def static(cls, **options: Any) -> QuantizationConfig:
        """Scales of activations from calibration."""
        return cls(mode="static", **options)

    @classmethod
    def dynamic(cls, **options: Any) -> QuantizationConfig:
        """Scales of activations from each input, at run time."""
        return cls(mode="dynamic", **options)

    @classmethod
    def qat(cls, **options: Any) -> QuantizationConfig:
        """Scales of activations and weights that follow training."""
        return cls(mode="qat", **options)

    @property
    def activations(self) -> Integers:
        """The integers that stand for activations."""
        if self.symmetric_activations:
            # Not -128: the largest magnitude would fall between -127 and -128, a tie for the rounding.
            low, high = (-63, 63) if self.reduce_range else (-127, 127)
            return Integers(torch.int8, low, high, symmetric=True)
        return Integers(torch.uint8, 0, 127 if self.reduce_range else 255, symmetric=False)


def _check(value: str, name: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise Lower86Error(
            f'{name}="{value}" is none of {", ".join(allowed)}',
            where="QuantizationConfig",
            fix=f"use one of them as {name}",
        )
