"""Which row operations become one kernel, and that it computes what PyTorch does, on every target to the same bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import lower86
from lower86.lowered import LoweredModule
from lower86.program.kernels import Rows

F = torch.nn.functional
Function = Callable[[Tensor], Any]


class Model(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def steps_of(function: Function, x: Tensor, **dynamic: Any) -> int:
    """How many steps the function takes, after its results have been compared with PyTorch's and with AVX2's."""
    module = lower86.lower_pt2e_quantized_to_x86(Model(function), (x,), on_fallback="ignore", **dynamic)
    narrow = LoweredModule(module, module.graph, lower86.Target.host(level="avx2"))
    got, other, expected = (pytree.tree_leaves(results) for results in (module(x), narrow(x), function(x)))
    for own, same, wanted in zip(got, other, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(own, same, rtol=0, atol=0, equal_nan=True)
    return len(module.compiled().executable.program.steps)


def softmax(x: Tensor) -> Tensor:
    power = (x - x.amax(-1, keepdim=True)).exp()
    return power / power.sum(-1, keepdim=True)


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)


def log_sum_exp(x: Tensor) -> Tensor:
    most = x.amax(-1)
    return (x - most.unsqueeze(-1)).exp().sum(-1).log() + most


def standardized(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + 1e-6)


def over_outer_dims(x: Tensor) -> tuple[Tensor, Tensor]:
    return (x - x.mean((0, 2), keepdim=True)) * x.amax((0, 2), keepdim=True), x.sum((0, 2))


def extremes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = F.gelu(x)
    return y, y.amin(-1), y.amax(-1)


def norm_of_a_sum(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x * 2 + 1
    return F.layer_norm(y, y.shape[-1:]) + y, y


def per_token(x: Tensor) -> tuple[Tensor, Tensor]:
    y = F.softmax(x, -1)
    scale = (y.amax([2]) - y.amin([2])).clamp(min=1e-6) / 255
    shaped = scale.reshape(x.shape[0], x.shape[1], 1)
    return (y / shaped).round().to(torch.uint8), shaped.to(torch.float64)


def squeezed_and_expanded(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(-1)
    return x - mean.unsqueeze(-1).expand(x.shape), mean.exp().unsqueeze(-1) * x


def two_inputs(x: Tensor) -> Tensor:
    return x.amax(-1) - (x + 1).cos().sum(-1)


def place(x: Tensor) -> Tensor:
    return torch.where(torch.arange(x.shape[-1]) == x.argmax(-1, keepdim=True), x, x.amin(-1, keepdim=True))


ONE_KERNEL = (
    softmax, rms_norm, layer_norm, log_sum_exp, standardized, over_outer_dims, extremes, norm_of_a_sum, per_token,
    squeezed_and_expanded, two_inputs, place,
)  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 17, 40), (16, 16, 16), (1, 40, 1)], ids=str)
@pytest.mark.parametrize("function", ONE_KERNEL)
def test_rows_of_one_shape_are_one_kernel(function: Function, shape: tuple[int, ...]) -> None:
    assert steps_of(function, torch.randn(shape)) == 1


@pytest.mark.parametrize("function", [rms_norm, layer_norm, standardized, norm_of_a_sum, squeezed_and_expanded])
def test_sizes_known_at_the_call(function: Function) -> None:
    dims = {"dynamic_shapes": ({0: torch.export.Dim("a"), 2: torch.export.Dim("c", max=99)},)}
    assert steps_of(function, torch.randn(3, 17, 40), **dims) == 1


def test_what_is_costly_is_not_computed_again_where_rows_may_be_long() -> None:
    dims = {"dynamic_shapes": ({2: torch.export.Dim("c", max=99)},)}
    assert steps_of(softmax, torch.randn(3, 17, 40), **dims) == 2
    assert steps_of(extremes, torch.randn(3, 17, 40), **dims) == 2
    assert steps_of(extremes, torch.randn(17, 1, 9000)) == 2
    assert steps_of(extremes, torch.randn(17, 1, 8100)) == 1


def test_few_rows_leave_all_elements_to_all_threads() -> None:
    assert steps_of(layer_norm, torch.randn(2, 1, 9000)) > 1
    assert steps_of(lambda x: x / x.sum(), torch.randn(40, 300)) == 2
    assert steps_of(lambda x: x / x.sum(), torch.randn(4, 300)) == 1
    assert steps_of(lambda x: x - x.mean(1, keepdim=True), torch.randn(32, 100, 40)) == 2  # each in a line of its own
    assert steps_of(lambda x: x - x.mean(1, keepdim=True), torch.randn(32, 10, 40)) == 1


def test_a_number_a_row_that_meets_another_row() -> None:
    x = torch.randn(24, 24)
    assert steps_of(lambda x: x - x.amax(-1), x) == 2  # number i meets column i
    assert steps_of(lambda x: x.amax(-1) + x.amax(-1, keepdim=True), x) == 2
    assert steps_of(lambda x: x.unsqueeze(0) + x.mean(-1).reshape(1, 1, 24), x) == 2
    assert steps_of(lambda x: x - x.amin(0), x) == 1  # along the first dim, it is number i's own column
    turned = torch.randn(24, 24, 40)
    assert steps_of(lambda x: x - x.amax(-1).T.unsqueeze(-1), turned) == 2
    assert steps_of(lambda x: x.argmax(-1)[x.argmin(-1)], x) == 2


def test_rows_over_other_dims_are_other_kernels() -> None:
    assert steps_of(lambda x: (x.sum(0), x.sum(1)), torch.randn(20, 30)) == 2
    assert steps_of(lambda x: F.softmax(x, 0).sum(1), torch.randn(20, 30)) == 2


def test_a_row_operation_that_waits_for_the_group_is_not_part_of_it() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        norm = F.layer_norm(x, [40])
        return norm, (norm.amax(-1, keepdim=True) * x) @ torch.ones(40, 40) + norm

    assert steps_of(function, torch.randn(3, 17, 40)) == 2
    # The product stands between the two, and its own result takes no part in the row.
    assert steps_of(lambda x: (x @ torch.ones(40, 40)).amax(-1) + x.amax(-1), torch.randn(17, 40)) == 2


def test_equal_reductions_are_made_once() -> None:
    module = lower86.lower_pt2e_quantized_to_x86(
        Model(lambda x: (x - x.mean(-1, keepdim=True), x.mean(-1), x.sum(-1))), (torch.randn(20, 30),),
        on_fallback="ignore",
    )  # fmt: skip
    (kernel,) = module.compiled().executable.program.kernels
    assert isinstance(kernel, Rows)
    assert len(kernel.reductions) == 1
