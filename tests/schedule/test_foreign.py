"""A step that runs in PyTorch: what PyTorch refuses in a call is an error of lower86's, which names the step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import lower86
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


class Unshuffled(nn.Module):
    """PyTorch gives this another shape where there are no rows than it tells export."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(x * 2, 2) + 1


def test_a_result_of_another_shape_than_told_is_refused() -> None:
    shape = {0: Dim.AUTO, 2: Dim.AUTO}
    lowered = lower_anyhow(Unshuffled(), torch.randn(2, 3, 6, 4), dynamic_shapes=(shape,))
    assert lower86.explain(lowered).foreign
    agree(Unshuffled(), lowered, torch.randn(3, 3, 4, 4), compare=near)
    with pytest.raises(lower86.InputError, match=r"pixel_unshuffle refuses"):
        lowered(torch.randn(0, 3, 6, 4))
