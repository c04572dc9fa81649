"""A step that runs in PyTorch: what PyTorch refuses in a call is an error of lower86's, which names the step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import lower86
from lower86.schedule.foreign import ForeignCall
from lower86.schedule.views import contiguous
from tests.models.checks import agree, lower_anyhow, near


class Enlarged(nn.Module):
    """Something native, and then bilinear upsampling, which is not when sizes vary."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x * 2, scale_factor=2.0, mode="bilinear")


def test_what_pytorch_refuses_names_the_step_and_the_line() -> None:
    shape = {2: Dim.AUTO, 3: Dim.AUTO}
    lowered = lower_anyhow(Enlarged(), torch.randn(1, 2, 6, 4), dynamic_shapes=(shape,))
    assert lower86.explain(lowered).foreign
    agree(Enlarged(), lowered, torch.randn(1, 2, 3, 5), compare=near)
    with pytest.raises(lower86.InputError, match=r"upsample_bilinear2d.* refuses .*greater than 0") as caught:
        lowered(torch.randn(1, 2, 0, 4))
    assert "test_foreign.py" in caught.value.where
    agree(Enlarged(), lowered, torch.randn(1, 2, 4, 4), compare=near)


def test_a_result_of_another_shape_than_told_is_refused() -> None:
    place = torch.zeros(2)
    made = ((contiguous(0, "f32", (2,)), torch.float32),)
    call = ForeignCall("node", "aten::odd", "node odd", lambda: torch.ones(3), (), {}, (), made)
    with pytest.raises(lower86.InputError, match="aten::odd refuses its operands in this call: The size of tensor"):
        call([place.data_ptr()], {})
    assert place.tolist() == [0.0, 0.0]
