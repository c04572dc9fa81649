"""What is no calibration set is said before work begins, with the number of the item and the name of the input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lower86
from lower86 import Lower86Error, QuantizationConfig, X86Quantizer
from tests.models.small import MLP, Attention

GOOD = torch.randn(2, 16)


def _fails() -> Iterator[Any]:
    yield GOOD
    raise OSError("the disk is gone")


def _for_training() -> X86Quantizer:
    return X86Quantizer().set_global(QuantizationConfig.qat())


NAN = torch.full((2, 16), float("nan"))
CASES: dict[str, tuple[Iterable[Any], dict[str, Any], str]] = {
    "empty": ([], {}, "calibration set is empty"),
    "used up": (iter(()), {}, "used up"),
    "a tensor": (GOOD, {}, "not a collection of inputs"),
    "a number": ([GOOD, 3], {}, "calibration, item 1"),
    "nan": ([GOOD, NAN], {}, r"NaN\n.*item 1, input x"),
    "shape": ([GOOD, GOOD, torch.randn(3, 16)], {}, r"\[3, 16\].*\[2, 16\]\n.*item 2, input x"),
    "dtype": ([GOOD, GOOD.double()], {}, r"float64.*float32\n.*item 1, input x"),
    "labels": ([(GOOD, torch.zeros(2))] * 2, {"example_inputs": GOOD}, r"item 0\n.*transform="),
    "transform": ([GOOD], {"transform": lambda x: x.nothing}, "transform failed: AttributeError"),
    "subset": ([GOOD], {"subset_size": 0}, "subset_size=0"),
    "negative subset": ([GOOD], {"subset_size": -3}, "subset_size=-3"),
    "text": ("abc", {}, "calibration is a str"),
    "texts": (["abc"], {}, r"a str is no input.*item 0"),
    "fails": (_fails(), {}, r"calibration set failed: OSError: the disk is gone\n.*item 1"),
    "unknown name": ([{"y": GOOD}], {}, r"cannot be called so: .*'x'\n.*item 0"),
    "unknown name later": ([{"x": GOOD}, {"y": GOOD}], {}, r"y.*item 1"),
    "one name too many": ([{"x": GOOD, "z": GOOD}], {}, r"cannot be called so: .*'z'"),
    "no values": ([GOOD[:0]], {}, r"no values\n.*item 0"),
    "another device": ([GOOD, GOOD.to("meta")], {}, r"device meta\n.*item 1, input x"),
    "infinity": ([GOOD, GOOD / 0], {}, r"NaN or infinite\n.*node x"),
    "not a function": ([GOOD], {"transform": 3}, "transform is a int"),
    "no recipe": ([GOOD], {"recipe": ["balanced"]}, "there is no recipe"),
    "no quantizer": ([GOOD], {"quantizer": X86Quantizer}, "is no quantizer"),
    "training": ([GOOD], {"quantizer": _for_training()}, "quantization-aware training"),
    "shapes": ([GOOD], {"dynamic_shapes": 3}, "dynamic_shapes=3"),
    "seed": ([GOOD], {"seed": "a"}, "seed='a'"),
    "ignored": ([GOOD], {"ignored": 3}, "3 names nothing to ignore"),
    "recipe": ([GOOD], {"recipe": "balance"}, "did you mean 'balanced'"),
}


@pytest.mark.parametrize(("calibration", "options", "message"), CASES.values(), ids=CASES)
def test_bad_input(calibration: Iterable[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(Lower86Error) as caught:
        lower86.quantize(MLP(), calibration, progress=False, **options)
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.where
    assert caught.value.fix
    assert "While executing" not in str(caught.value)


def test_what_is_no_float_model() -> None:
    with torch.device("meta"):
        empty = MLP()
    quantized = lower86.quantize(MLP(), [GOOD], recipe="fast", progress=False)
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, (GOOD,))
    for model, message in (
        (empty, "the device meta"),
        (quantized, "quantized already"),
        (lowered, "quantized already"),
        (torch.relu, "not a torch.nn.Module"),
        (None, "model is a NoneType"),
    ):
        with pytest.raises(Lower86Error, match=message):
            lower86.quantize(model, [GOOD], progress=False)  # type: ignore[arg-type]  # what the types do not allow


def test_a_nested_input_is_named() -> None:
    x, mask = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    with pytest.raises(Lower86Error, match="item 1, input mask"):
        lower86.quantize(Attention(), [(x, mask), (x, mask[:, :5])], progress=False)


class _Divides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) / x.sum(1, keepdim=True).abs())


def test_a_layer_that_makes_infinities_is_named() -> None:
    with pytest.raises(Lower86Error, match=r"NaN or infinite\n.*node div"):
        lower86.quantize(_Divides(), [GOOD, torch.zeros(2, 16)], progress=False)


def test_a_data_loader_with_labels_and_a_subset() -> None:
    data = TensorDataset(torch.randn(20, 16), torch.zeros(20))
    loader: Any = DataLoader(data, batch_size=2)
    quantized = lower86.quantize(MLP(), loader, transform=lambda batch: batch[0], subset_size=5, progress=False)
    report = quantized.meta["lower86"]
    assert (report.calibrated, report.judged) == (4, 1)
