"""Quantization-aware training that cannot work says so, and what to do: before it, or at its end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lower86
from lower86 import Lower86Error, QuantizationConfig, X86Quantizer
from lower86.frontend.torchao import prepare
from tests.models.small import MLP

X = torch.randn(4, 16)


def static() -> Any:
    return X86Quantizer()


BAD: dict[str, tuple[Any, str]] = {
    "eval mode": (lambda: lower86.prepare_qat(MLP().eval(), (X,)), "in eval mode"),
    "no model": (lambda: lower86.prepare_qat("mlp", (X,)), "expected a torch.nn.Module, got str"),
    "no tuple": (lambda: lower86.prepare_qat(MLP().train(), X), "example_inputs is a Tensor"),
    "another shape": (lambda: lower86.prepare_qat(MLP().train(), (X[:, :3],)), "cannot be exported"),
    "a configuration": (
        lambda: lower86.prepare_qat(MLP().train(), (X,), quantizer=QuantizationConfig.qat()),
        "quantizer is a QuantizationConfig",
    ),
    "for calibration": (lambda: lower86.prepare_qat(MLP().train(), (X,), quantizer=static()), "set up for calibration"),
    "nothing to do": (
        lambda: lower86.prepare_qat(nn.ReLU().train(), (X,)),
        "finds nothing in the model",
    ),
    "not exported": (lambda: lower86.convert(MLP()), "a model that rounds nothing"),
    "no module": (lambda: lower86.convert(None), "got NoneType"),
    "not prepared": (lambda: lower86.convert(torch.export.export(MLP(), (X,)).module()), "a model that rounds nothing"),
    "not trained": (lambda: lower86.convert(lower86.prepare_qat(MLP().train(), (X,))), "no batch has gone through"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(Lower86Error, match=message) as caught:
        call()
    assert caught.value.fix
    assert caught.value.where


def test_training_that_has_diverged_names_the_layer() -> None:
    prepared = lower86.prepare_qat(MLP().train(), (X,))
    prepared(X / 0)
    with pytest.raises(Lower86Error, match="infinite or NaN in training") as caught:
        lower86.convert(prepared)
    assert "x" in caught.value.where


def test_a_model_prepared_for_calibration_is_refused() -> None:
    prepared = prepare(torch.export.export(MLP().eval(), (X,)).module(), X86Quantizer())
    with pytest.raises(Lower86Error, match="prepared for calibration, not for training"):
        lower86.convert(prepared)
