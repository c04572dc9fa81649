"""The operators of NORMAL that only say where elements are: their results are views, if memory lies as they want."""

import torch

_A = torch.ops.aten

VIEWS = (
    _A.reshape.default, _A.permute.default, _A.expand.default, _A.slice.Tensor, _A.select.int, _A.unfold.default,
    _A.diagonal.default,
)  # fmt: skip
"""All of them; `schedule.views` knows how each moves through memory, and that of `lower86::windows`, too."""
